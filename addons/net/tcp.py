"""One TCP connection of the data path: bytes are handed on as the kernel gives them, and not asked for while held.

asyncio's streams would cost two copies and two turns of the event loop for each read, mitmproxy's handlers four tasks
for each client. So both clients' connections and those to targets are this protocol's from their first byte on.
"""

import asyncio
import itertools
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import Final, cast

from addons.net.backlog import Backlog

logger = logging.getLogger(__name__)

SIZE: Final = 131072
"""Bytes that one read takes at most."""
_BUFFER: Final = memoryview(bytearray(SIZE))
"""Of all wires: whoever gets a piece of it copies what they keep, and the data path runs on one event loop."""
LITTLE: Final = 16384
"""Bytes that one read takes at most while many connections are behind."""
_LITTLE_BUFFER: Final = _BUFFER[:LITTLE]
_MUCH: Final = 16384
"""More bytes than these are written from where they are: a transport copies what is not bytes; little of it waits for
what else is said in the same turn."""
BACKLOG: Final = Backlog()
"""Of all connections."""
KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: range(12, 17), socket.TCP_KEEPINTVL: range(8, 11), socket.TCP_KEEPCNT: range(5, 6),
}  # fmt: skip
"""Seconds of silence before the first probe, seconds between probes, and lost probes that end a connection, which is
52 to 66 s after the peer was heard of last.

Each connection takes the next of all combinations. Where thousands are idle, the kernel fires timers that are alike
together, and a CPU takes no more than net.core.netdev_max_backlog packets at once from loopback and veth, 1,000: it
drops the others, at each try the same ones. It tells timers up to 16 s apart to a sixteenth, longer ones to an eighth
(kernel/time/timer.c).
"""
_SPREAD: Final = itertools.cycle(itertools.product(*KEEPALIVE.values()))
MAX_UNSENT: Final = 4 * 1024 * 1024
"""Bytes that wait for a peer that does not read. Back-pressure stops far below; what TLS says by itself has none."""
_POLL: Final = select.poll()
"""One system call for one connection: the data path runs on one event loop."""
_LOST: Final = select.POLLHUP | select.POLLERR
_GONE: Final = getattr(select, "POLLRDHUP", 0) | _LOST
"""Of poll(2): the peer has sent FIN, even where bytes before it wait; only Linux says so."""


def _ignore(_: object) -> None:
    """Before anybody is there to take it, nothing is read; after the end nobody wants to know."""


def _nothing() -> None:
    """Nobody wants to know."""


class TcpConnection(asyncio.BufferedProtocol):
    """`deliver` gets the bytes of an open connection from `start` on.

    `ended` is told when the peer has sent FIN (False), and when the connection is lost (True); `failed` gets what
    either raises: asyncio would log it, with what it was about. A connection is read while it is not held, and while
    its `opposite` has room for what comes of it.
    """

    transport: asyncio.Transport

    def __init__(self, on_made: Callable[["TcpConnection"], None] = _ignore, max_unsent: int = MAX_UNSENT) -> None:
        """`on_made` is called once it is open; it may start it."""
        self.lost: Callable[[], None] = _nothing
        """Is called when the connection is no more, whoever has it then."""
        self._on_made = on_made
        self._max_unsent = max_unsent
        self._descriptor = -1
        """Of its socket, good as long as the transport is not closing."""
        self._opposite: TcpConnection | None = None
        self._held = self._blocked = self._discards = self._busy = self._full = self._finished = False
        self.reads = True
        """What the kernel has is asked for."""
        self._early = b""
        self._closed = self._started = False
        self.leave_alone()

    def leave_alone(self) -> None:
        """Tell nothing more to anybody."""
        self.deliver: Callable[[memoryview], None] = _ignore
        self.ended: Callable[[bool], None] = _ignore
        self.failed: Callable[[Exception], None] = _ignore

    def start(self) -> None:
        """Deliver, first what came before."""
        if self._started:
            return
        self._started = True
        early, self._early = self._early, b""
        for start in range(0, len(early), SIZE):
            piece = early[start : start + SIZE]
            _BUFFER[: len(piece)] = piece
            self.buffer_updated(len(piece))
        if self._closed:
            self._end(self.transport.is_closing())
        self._settle()

    def couple(self, other: "TcpConnection") -> None:
        """Each is read only while the other has room; earlier couples are no more."""
        self.uncouple()
        other.uncouple()
        self._opposite, other._opposite = other, self
        self._block(other._full)
        other._block(self._full)

    def uncouple(self) -> None:
        """It has no opposite any more."""
        opposite, self._opposite = self._opposite, None
        if opposite is not None:
            opposite._opposite = None
            opposite._block(False)
            self._block(False)

    @property
    def made(self) -> bool:
        """True once it has its transport: asyncio calls a protocol, and goes on whatever that raises."""
        return hasattr(self, "transport")

    @property
    def quiet(self) -> bool:
        """True if the kernel has nothing of the peer's that nobody has read yet, no byte and no end (tcp(7))."""
        return self._descriptor >= 0 and not self._closed and not self.transport.is_closing() and not self._said()

    @property
    def gone(self) -> bool:
        """True if the peer has closed its side, even where bytes of it wait to be read; False where nobody can say."""
        return self._closed or self.transport.is_closing() or bool(self._said() & _GONE)

    @property
    def dead(self) -> bool:
        """True if no byte can go in either direction any more, read or not."""
        return self.transport.is_closing() or bool(self._said() & _LOST)

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    def hold(self) -> None:
        """Do not read until `release`; what this very read has brought is still given."""
        self._held = True
        if not self._busy:
            self._settle()

    def release(self) -> None:
        self._held = False
        if not self._busy:
            self._settle()

    def discard(self) -> None:
        """Read to the end, and give nothing of it to anybody."""
        self._discards = True
        self.release()

    def send(self, data: bytes | memoryview) -> None:
        """Write, or forget it if that has no end any more: then `ended` tells it. A view is the caller's again."""
        if self.transport.is_closing() or self._finished:
            return
        if len(data) > _MUCH and not self.unsent:
            data = data[self._write(data) :]
        if data:
            self.transport.write(bytes(data))
        if self._full and self.unsent > self._max_unsent:
            self.transport.abort()

    def end(self) -> None:
        """Give nothing more to anybody, and close the connection; what was sent still goes out."""
        self.leave_alone()
        self.transport.close()

    def finish(self) -> bool:
        """Send FIN after what was sent; False if nothing can be sent any more: then `ended` tells it."""
        if self.transport.is_closing():
            return False
        self._finished = True
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()
            return False
        return True

    def abort(self) -> None:
        """End it now, whatever waits to be sent."""
        self.transport.abort()

    def forget(self) -> None:
        """The client connection has ended, and with it all that this wire was part of."""
        self.leave_alone()
        self.transport.abort()
        self._opposite = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none of asyncio.Transport's children, but have all that it has.
        self.transport = cast("asyncio.Transport", transport)
        try:
            self._begin()
        except Exception as error:
            # An event loop would log it with its text, and some leave the connection open.
            logger.error("connection refused: %s", type(error).__name__)
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _LITTLE_BUFFER if BACKLOG.many else _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._discards:
            return
        if not self._started:
            self._early += _BUFFER[:nbytes]
            self.transport.pause_reading()
            return
        self._busy = True
        try:
            self.deliver(_BUFFER[:nbytes])
        except Exception as error:
            self.failed(error)
        finally:
            self._busy = False
        if self._held or not self.reads:
            self._settle()

    def eof_received(self) -> bool:
        self._closed = True
        self._end(False)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._fill(False)
        self._end(True)
        self.lost()

    def pause_writing(self) -> None:
        self._fill(True)

    def resume_writing(self) -> None:
        self._fill(False)

    def _write(self, data: bytes | memoryview) -> int:
        """Give it to the kernel; returns how many bytes of it that took."""
        try:
            return os.write(self._descriptor, data)
        except OSError:
            # The transport meets that too, if it is more than a lack of room, and says so.
            return 0

    def _begin(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            self._descriptor = sock.fileno()
            keep_alive(self._descriptor)
        self._on_made(self)
        self._settle()

    def _fill(self, full: bool) -> None:
        self._full = full
        if full:
            BACKLOG.add(self)
        else:
            BACKLOG.remove(self)
        if self._opposite is not None:
            self._opposite._block(full)

    def _end(self, lost: bool) -> None:
        if not self._started:
            # `start` tells it.
            return
        try:
            self.ended(lost)
        except Exception as error:
            self.failed(error)

    def _block(self, blocked: bool) -> None:
        if blocked is not self._blocked:
            self._blocked = blocked
            self._settle()

    def _said(self) -> int:
        """What the kernel has of the peer: nothing, bytes, FIN, an error (poll(2))."""
        if self._descriptor < 0:
            return 0
        _POLL.register(self._descriptor, select.POLLIN | _GONE)
        try:
            said = _POLL.poll(0)
        finally:
            _POLL.unregister(self._descriptor)
        return said[0][1] if said else 0

    def _settle(self) -> None:
        wanted = self._started and (self._discards or not (self._held or self._blocked))
        if wanted and not self.reads:
            self.reads = True
            self.transport.resume_reading()
        elif self.reads and not wanted:
            self.reads = False
            self.transport.pause_reading()


def keep_alive(descriptor: int) -> None:
    """Have the kernel ask the peer of an idle TCP connection whether it is there.

    What is written goes out at once: event loops set TCP_NODELAY themselves.
    """
    # To set options any family will do; one that is named is not asked for.
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in zip(KEEPALIVE, next(_SPREAD), strict=True):
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
    except OSError:
        # The peer may be gone already; reading says so.
        pass
    finally:
        # It is the transport's.
        sock.detach()
