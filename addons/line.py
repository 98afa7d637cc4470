"""The sockets of one client connection, for what mitmproxy's commands cannot say: hold, time, cut.

A layer that waits must cost nothing, so its client is not read meanwhile; what the kernel and asyncio hold then is
bounded (128 kB). Back-pressure is kept per direction: a side is read when the other has taken what came before.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import StartHook
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import asyncio_utils

KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds of silence before the first probe, seconds between probes, and lost probes that end a connection."""
CUT_GRACE: Final = 1.0
"""Seconds that a peer has to take what was on its way when a stream was cut."""
LINGER: Final = 5.0
"""Seconds that a refused client has to take the answer and close; what it sends meanwhile is thrown away."""


class Wait(Enum):
    """What a timer is for."""

    CLIENT = "client"
    TARGET = "target"


@dataclass
class TimeUp(events.Event):
    """A timer of `Line.arm` has ended; `number` tells it from earlier ones."""

    wait: Wait
    number: int


class Retire(events.Event):
    """The proxy is about to end: finish what runs, begin nothing."""


class HeldReader:
    """A stream reader that can be held, and that reads only when `opposite` has taken what was read before."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.opposite: asyncio.StreamWriter | None = None
        self._reader = reader
        self._open = asyncio.Event()
        self._open.set()
        self._discard = False

    @property
    def ended(self) -> bool:
        """True if the peer has closed, even where bytes of it wait to be read."""
        # asyncio tells the end only to who has read everything before it.
        return bool(self._reader._eof) or self._reader.exception() is not None  # type: ignore[attr-defined]

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def discard(self) -> None:
        """Read to the end, and give nothing of it to anybody."""
        self._discard = True
        self._open.set()

    async def read(self, size: int) -> bytes:
        if self.opposite is not None:
            # A broken opposite is told to the layers by its own reader.
            with contextlib.suppress(OSError):
                await self.opposite.drain()
        if not self._open.is_set():
            await self._open.wait()
        data = await self._reader.read(size)
        while self._discard and data:
            data = await self._reader.read(size)
        return data


class Line:
    """See the module's text. Made when a client has connected, before any of its bytes is read."""

    def __init__(self, handler: ConnectionHandler) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._readers: dict[Connection, HeldReader] = {}
        self._writers: list[asyncio.StreamWriter] = []
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._on_close: list[Callable[[], None]] = []
        self.client = handler.client
        self._wrap(self.client)
        # Draining is the readers' work: waiting for all writers would let a client that does not read stall uploads.
        handler.drain_writers = _no_wait  # type: ignore[method-assign]  # mitmproxy has no other way to replace it

    def opened(self, server: Connection) -> None:
        """A connection to a target is open: keep it alive, and couple the two directions."""
        self._wrap(server)
        client, target = self._handler.transports[self.client], self._handler.transports[server]
        if self.client in self._readers and isinstance(target.writer, asyncio.StreamWriter):
            self._readers[self.client].opposite = target.writer
        if isinstance(client.writer, asyncio.StreamWriter):
            self._readers[server].opposite = client.writer

    def hold(self, connection: Connection | None = None) -> None:
        """Do not read `connection` (default: the client) until `release`."""
        self._readers[connection or self.client].hold()

    def release(self, connection: Connection | None = None) -> None:
        self._readers[connection or self.client].release()

    def arm(self, seconds: float, wait: Wait) -> int:
        """Deliver a TimeUp to the layers in `seconds`, in place of the timer that runs; returns its number."""
        self.disarm()
        self._number += 1
        self._timer = self._loop.call_later(seconds, self._time_up, TimeUp(wait, self._number))
        return self._number

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def linger(self) -> None:
        """The last answer is written: give the client time to take it, so that it sees that and no reset."""
        self.disarm()
        self._readers[self.client].discard()
        self._timer = self._loop.call_later(LINGER, self.abort)

    def cut(self) -> None:
        """End both sides without a farewell; the client gets CUT_GRACE to take what is on its way to it."""
        self.disarm()
        for writer in self._writers[1:]:
            writer.transport.abort()
        self._writers[0].transport.close()
        self._timer = self._loop.call_later(CUT_GRACE, self.abort)
        self._end_handler()

    def abort(self) -> None:
        """End both sides now."""
        self.disarm()
        for writer in self._writers:
            writer.transport.abort()
        self._end_handler()

    def tell(self, hook: StartHook, then: Callable[[], None]) -> None:
        """Run a hook that nobody waits for, and `then` a function."""

        async def run() -> None:
            await self._handler.handle_hook(hook)
            then()

        asyncio_utils.create_task(run(), name=f"connector hook {hook.name}", keep_ref=True)

    @property
    def client_gone(self) -> bool:
        """True if the client has closed its side, whether that was read or not."""
        return self._readers[self.client].ended

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client connection has ended."""
        self._on_close.append(callback)

    def closed(self) -> None:
        """The client connection has ended: nothing of it may stay for a peer that does not read."""
        self.disarm()
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()
        self._timer = self._loop.call_later(CUT_GRACE, self._abort_writers)

    def _abort_writers(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _end_handler(self) -> None:
        io = self._handler.transports.get(self.client)
        if io is None:
            return
        if io.handler is not None:
            io.handler.cancel("ended")
        else:
            # It is made right after the first event of the layers, which is where we are.
            self._loop.call_soon(self._end_handler)

    def _time_up(self, event: TimeUp) -> None:
        self._timer = None
        self.deliver(event)

    def deliver(self, event: events.Event) -> None:
        """Give `event` to the layers."""
        asyncio_utils.create_task(self._handler.server_event(event), name="connector event", keep_ref=True)

    def _wrap(self, connection: Connection) -> None:
        io = self._handler.transports[connection]
        if not isinstance(io.reader, asyncio.StreamReader) or not isinstance(io.writer, asyncio.StreamWriter):
            raise TypeError("not a TCP connection")
        held = self._readers[connection] = HeldReader(io.reader)
        io.reader = held  # type: ignore[assignment]  # only `read` is called on it
        self._writers.append(io.writer)
        _keep_alive(io.writer)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is None:
        return
    # The peer may be gone already; reading says so.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _no_wait() -> None:
    pass
