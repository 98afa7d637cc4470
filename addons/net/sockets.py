"""The sockets of one client connection, and all that is done with them: read, write, hold, time, ask, cut.

mitmproxy makes and ends the connections; between, its commands and streams would cost most of a request's time. A
layer that waits must cost nothing, so its client is not read meanwhile. Back-pressure is kept per direction: a side is
read while the other has room for it.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import OpenConnection, StartHook
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO
from mitmproxy.utils import asyncio_utils

from addons.net.events import Layers, TimeUp, Wait
from addons.net.tcp import TcpConnection

logger = logging.getLogger(__name__)

CUT_GRACE: Final = 1.0
"""Seconds that a peer has to take what was on its way when a stream was cut."""
LINGER: Final = 5.0
"""Seconds that a client has to close after its last answer, and to take a refusal; what it sends meanwhile is thrown
away."""
LOOK: Final = 1.0
"""Seconds between two looks at whether the client has taken the last answer."""


class Sockets:
    """See the module's text. Made when a client has connected, before any of its bytes is read."""

    def __init__(self, handler: ConnectionHandler) -> None:
        # It lives as long as its connection does; a cycle would keep all of that until the next full collection.
        self._handler: ConnectionHandler = weakref.proxy(handler)
        self._loop = asyncio.get_running_loop()
        self._wires: dict[Connection, TcpConnection] = {}
        self._layers: Layers | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._on_close: list[Callable[[], None]] = []
        self.client = handler.client
        self._client = self._wire(self.client)
        # Draining is the wires' work, and nothing is read in mitmproxy's own way that would have to wait for it.
        handler.drain_writers = _no_wait  # type: ignore[method-assign]  # mitmproxy has no other way to replace it
        # Its time never comes (`tcp_timeout`); it would be a cycle.
        handler.timeout_watchdog.callback = _no_wait

    def serve(self, layers: Layers) -> None:
        """Give all that comes from now on to `layers`."""
        self._layers = layers
        self._serve(self.client, self._client)

    def dial(self, command: OpenConnection) -> None:
        """Have mitmproxy open a connection; its OpenConnectionCompleted may come at once."""
        task = asyncio_utils.create_task(
            self._handler.open_connection(command), name="connector dial", keep_ref=True, client=self.client.peername
        )
        task.add_done_callback(partial(self._dialled, command))
        if not task.done():
            self._handler.transports[command.connection] = ConnectionIO(handler=task)

    def opened(self, server: Connection) -> None:
        """A connection to a target is open: keep it alive, and couple the two directions."""
        wire = self._wire(server)
        self._serve(server, wire)
        wire.couple(self._client)

    def sender(self, connection: Connection) -> Callable[[bytes], None]:
        """What writes to an open connection."""
        return self._wires[connection].send

    def finish(self, connection: Connection) -> None:
        """Send FIN after what was sent; the other side may go on."""
        if not connection.state & ConnectionState.CAN_WRITE:
            return
        if not self._wires[connection].finish():
            return
        connection.state &= ~ConnectionState.CAN_WRITE
        if connection.state is ConnectionState.CLOSED and not self._wires[connection].unsent:
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """End a connection, or the attempt to have one; what was sent still goes out."""
        connection.state = ConnectionState.CLOSED
        wire = self._wires.get(connection)
        if wire is not None:
            # mitmproxy's task ends by itself: a cancelled one leaves its frames to the garbage collector.
            wire.end()
        elif (io := self._handler.transports.get(connection)) is not None and io.handler is not None:
            io.handler.cancel("closed")
            if isinstance(io.writer, asyncio.StreamWriter):
                io.writer.transport.abort()

    def hold(self, connection: Connection | None = None) -> None:
        """Do not read `connection` (default: the client) until `release`."""
        (self._client if connection is None else self._wires[connection]).hold()

    def release(self, connection: Connection | None = None) -> None:
        (self._client if connection is None else self._wires[connection]).release()

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

    def linger(self, *, patient: bool) -> None:
        """The last answer is written: give the client time to take it, so that it sees that and no reset.

        `patient`: as long as it wants, like in the middle of an answer.
        """
        self.disarm()
        self._client.discard()
        if patient and self._client.unsent:
            self._timer = self._loop.call_later(LOOK, partial(self.linger, patient=True))
        elif self.client.state is ConnectionState.CLOSED:
            self.close(self.client)
        else:
            self._timer = self._loop.call_later(LINGER, self.abort)

    def cut(self) -> None:
        """End both sides without a farewell; the client gets CUT_GRACE to take what is on its way to it."""
        self.disarm()
        for connection, wire in self._wires.items():
            if wire is not self._client:
                wire.transport.abort()
                self.close(connection)
        self._client.transport.close()
        self.close(self.client)
        self._timer = self._loop.call_later(CUT_GRACE, self.abort)

    def abort(self) -> None:
        """End both sides now."""
        self.disarm()
        for connection, wire in self._wires.items():
            wire.transport.abort()
            self.close(connection)

    def ask(self, hook: StartHook, then: Callable[[], None]) -> None:
        """Run a hook, and give `then` to the layers, who may have ended meanwhile."""
        self.tell(hook, lambda: self._layers.go_on(then) if self._layers is not None else None)

    def wait_for[T](self, name: str, work: Coroutine[Any, Any, T], otherwise: T, then: Callable[[T], None]) -> None:
        """Give `then` what `work` returns, or `otherwise` where it raises; not if the layers have ended meanwhile.

        `name` is for the log.
        """

        async def run() -> None:
            try:
                result = await work
            except Exception as error:
                # The text might hold what was sent.
                logger.error("%s failed: %s", name, type(error).__name__)
                result = otherwise
            if self._layers is not None:
                self._layers.go_on(lambda: then(result))

        asyncio_utils.create_task(run(), name=f"connector {name}", keep_ref=True)

    def tell(self, hook: StartHook, then: Callable[[], None]) -> None:
        """Run a hook that nobody waits for, and `then` a function."""
        handled = self._handler.handle_hook(hook)

        async def run() -> None:
            await handled
            then()

        asyncio_utils.create_task(run(), name=f"connector hook {hook.name}", keep_ref=True)

    @property
    def client_gone(self) -> bool:
        """True if the client has closed its side, whether that was read or not."""
        return self._client.gone

    @property
    def client_left_unread(self) -> bool:
        """True if the client has gone and that does not show, as it is not read."""
        return not self._client.reads and self._client.gone

    @property
    def client_dead(self) -> bool:
        """True if nothing can be sent to the client either."""
        return self._client.dead

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client connection has ended."""
        self._on_close.append(callback)

    def closed(self) -> None:
        """The client connection has ended: nothing of it may stay for a peer that does not read."""
        self.disarm()
        self._timer = self._loop.call_later(CUT_GRACE, self._forget)
        self._layers = None
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()

    def _forget(self) -> None:
        self._timer = None
        for wire in self._wires.values():
            wire.forget()
        self._wires.clear()

    def _time_up(self, event: TimeUp) -> None:
        self._timer = None
        self.deliver(event)

    def deliver(self, event: events.Event) -> None:
        """Give `event` to the layers."""
        if self._layers is not None:
            self._layers.tell(event)

    def _serve(self, connection: Connection, wire: TcpConnection) -> None:
        if self._layers is not None:
            wire.deliver = partial(self._layers.received, connection)
            wire.ended = partial(self._ended, connection)

    def _ended(self, connection: Connection, lost: bool) -> None:
        known = not connection.state & ConnectionState.CAN_READ
        connection.state = ConnectionState.CLOSED if lost else connection.state & ~ConnectionState.CAN_READ
        if self._layers is not None and not known:
            self._layers.ended(connection)
        if connection.state is ConnectionState.CLOSED:
            self.close(connection)

    def _dialled(self, command: OpenConnection, task: asyncio.Task[None]) -> None:
        # mitmproxy asserts that a connection that was reset at once still knows its peer.
        if not task.cancelled() and task.exception() is not None:
            self.deliver(events.OpenConnectionCompleted(command, "connection reset"))

    def _wire(self, connection: Connection) -> TcpConnection:
        io = self._handler.transports[connection]
        if not isinstance(io.reader, asyncio.StreamReader) or not isinstance(io.writer, asyncio.StreamWriter):
            raise TypeError("not a TCP connection")
        wire = self._wires[connection] = TcpConnection(io.reader, io.writer)
        io.reader = wire  # type: ignore[assignment]  # only `read` is called on it
        return wire


async def _no_wait() -> None:
    pass
