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

READ_SIZE: Final = 131072
"""Bytes that one read takes at most."""
_BUFFER: Final = memoryview(bytearray(READ_SIZE))
"""Of all wires: whoever gets a piece of it copies what they keep, and the data path runs on one event loop."""
SMALL_READ_SIZE: Final = 16384
"""Bytes that one read takes at most while many connections are behind."""
_SMALL_BUFFER: Final = _BUFFER[:SMALL_READ_SIZE]
_LARGE_WRITE: Final = 16384
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
_KEEPALIVE_CYCLE: Final = itertools.cycle(itertools.product(*KEEPALIVE.values()))
MAX_UNSENT: Final = 4 * 1024 * 1024
"""Bytes that wait for a peer that does not read. Back-pressure stops far below; what TLS says by itself has none."""
_POLL: Final = select.poll()
"""One system call for one connection: the data path runs on one event loop."""
_POLL_DEAD: Final = select.POLLHUP | select.POLLERR
_POLL_CLOSED: Final = getattr(select, "POLLRDHUP", 0) | _POLL_DEAD
"""Of poll(2): the peer has sent FIN, even where bytes before it wait; only Linux says so."""


def _ignore(_: object) -> None:
    """Before anybody is there to take it, nothing is read; after the end nobody wants to know."""


def _noop() -> None:
    """Nobody wants to know."""


class TcpConnection(asyncio.BufferedProtocol):
    """`deliver` gets the bytes of an open connection from `start` on.

    `ended` is told when the peer has sent FIN (False), and when the connection is lost (True); `failed` gets what
    either raises: asyncio would log it, with what it was about. A connection is read while it is not held, and while
    its `opposite` has room for what comes of it.
    """

    transport: asyncio.Transport

    def __init__(self, on_connected: Callable[["TcpConnection"], None] = _ignore, max_unsent: int = MAX_UNSENT) -> None:
        """`on_made` is called once it is open; it may start it."""
        self.on_lost: Callable[[], None] = _noop
        """Is called when the connection is no more, whoever has it then."""
        self._on_connected = on_connected
        self._max_unsent = max_unsent
        self._descriptor = -1
        """Of its socket, good as long as the transport is not closing."""
        self._opposite: TcpConnection | None = None
        self._is_paused = self._is_blocked = self._is_discarding = self._is_delivering = self._is_backlogged = (
            self._is_eof_sent
        ) = False
        self.is_reading = True
        """What the kernel has is asked for."""
        self._early_data = b""
        self._is_peer_closed = self._is_started = False
        self.clear_callbacks()

    def clear_callbacks(self) -> None:
        """Tell nothing more to anybody."""
        self.on_data: Callable[[memoryview], None] = _ignore
        self.on_eof: Callable[[bool], None] = _ignore
        self.on_error: Callable[[Exception], None] = _ignore

    def start(self) -> None:
        """Deliver, first what came before."""
        if self._is_started:
            return
        self._is_started = True
        data, self._early_data = self._early_data, b""
        for start in range(0, len(data), READ_SIZE):
            piece = data[start : start + READ_SIZE]
            _BUFFER[: len(piece)] = piece
            self.buffer_updated(len(piece))
        if self._is_peer_closed:
            self._report_eof(self.transport.is_closing())
        self._update_reading()

    def couple(self, other: "TcpConnection") -> None:
        """Each is read only while the other has room; earlier couples are no more."""
        self.uncouple()
        other.uncouple()
        self._opposite, other._opposite = other, self
        self._set_blocked(other._is_backlogged)
        other._set_blocked(self._is_backlogged)

    def uncouple(self) -> None:
        """It has no opposite any more."""
        opposite, self._opposite = self._opposite, None
        if opposite is not None:
            opposite._opposite = None
            opposite._set_blocked(False)
            self._set_blocked(False)

    @property
    def is_connected(self) -> bool:
        """True once it has its transport: asyncio calls a protocol, and goes on whatever that raises."""
        return hasattr(self, "transport")

    @property
    def is_quiet(self) -> bool:
        """True if the kernel has nothing of the peer's that nobody has read yet, no byte and no end (tcp(7))."""
        return (
            self._descriptor >= 0 and not self._is_peer_closed and not self.transport.is_closing() and not self._poll()
        )

    @property
    def is_peer_closed(self) -> bool:
        """True if the peer has closed its side, even where bytes of it wait to be read; False where nobody can say."""
        return self._is_peer_closed or self.transport.is_closing() or bool(self._poll() & _POLL_CLOSED)

    @property
    def is_dead(self) -> bool:
        """True if no byte can go in either direction any more, read or not."""
        return self.transport.is_closing() or bool(self._poll() & _POLL_DEAD)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Do not read until `release`; what this very read has brought is still given."""
        self._is_paused = True
        if not self._is_delivering:
            self._update_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if not self._is_delivering:
            self._update_reading()

    def discard(self) -> None:
        """Read to the end, and give nothing of it to anybody."""
        self._is_discarding = True
        self.resume_reading()

    def send(self, data: bytes | memoryview) -> None:
        """Write, or forget it if that has no end any more: then `ended` tells it. A view is the caller's again."""
        if self.transport.is_closing() or self._is_eof_sent:
            return
        if len(data) > _LARGE_WRITE and not self.unsent_bytes:
            data = data[self._write_now(data) :]
        if data:
            self.transport.write(bytes(data))
        if self._is_backlogged and self.unsent_bytes > self._max_unsent:
            self.transport.abort()

    def close(self) -> None:
        """Give nothing more to anybody, and close the connection; what was sent still goes out."""
        self.clear_callbacks()
        self.transport.close()

    def send_eof(self) -> bool:
        """Send FIN after what was sent; False if nothing can be sent any more: then `ended` tells it."""
        if self.transport.is_closing():
            return False
        self._is_eof_sent = True
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()
            return False
        return True

    def abort(self) -> None:
        """End it now, whatever waits to be sent."""
        self.transport.abort()

    def dispose(self) -> None:
        """The client connection has ended, and with it all that this wire was part of."""
        self.clear_callbacks()
        self.transport.abort()
        self._opposite = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none of asyncio.Transport's children, but have all that it has.
        self.transport = cast("asyncio.Transport", transport)
        try:
            self._on_open()
        except Exception as error:
            # An event loop would log it with its text, and some leave the connection open.
            logger.error("connection refused: %s", type(error).__name__)
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _SMALL_BUFFER if BACKLOG.is_congested else _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_discarding:
            return
        if not self._is_started:
            self._early_data += _BUFFER[:nbytes]
            self.transport.pause_reading()
            return
        self._is_delivering = True
        try:
            self.on_data(_BUFFER[:nbytes])
        except Exception as error:
            self.on_error(error)
        finally:
            self._is_delivering = False
        if self._is_paused or not self.is_reading:
            self._update_reading()

    def eof_received(self) -> bool:
        self._is_peer_closed = True
        self._report_eof(False)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_peer_closed = True
        self._set_backlogged(False)
        self._report_eof(True)
        self.on_lost()

    def pause_writing(self) -> None:
        self._set_backlogged(True)

    def resume_writing(self) -> None:
        self._set_backlogged(False)

    def _write_now(self, data: bytes | memoryview) -> int:
        """Give it to the kernel; returns how many bytes of it that took."""
        try:
            return os.write(self._descriptor, data)
        except OSError:
            # The transport meets that too, if it is more than a lack of room, and says so.
            return 0

    def _on_open(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            self._descriptor = sock.fileno()
            enable_keepalive(self._descriptor)
        self._on_connected(self)
        self._update_reading()

    def _set_backlogged(self, full: bool) -> None:
        self._is_backlogged = full
        if full:
            BACKLOG.add(self)
        else:
            BACKLOG.remove(self)
        if self._opposite is not None:
            self._opposite._set_blocked(full)

    def _report_eof(self, lost: bool) -> None:
        if not self._is_started:
            # `start` tells it.
            return
        try:
            self.on_eof(lost)
        except Exception as error:
            self.on_error(error)

    def _set_blocked(self, blocked: bool) -> None:
        if blocked is not self._is_blocked:
            self._is_blocked = blocked
            self._update_reading()

    def _poll(self) -> int:
        """What the kernel has of the peer: nothing, bytes, FIN, an error (poll(2))."""
        if self._descriptor < 0:
            return 0
        _POLL.register(self._descriptor, select.POLLIN | _POLL_CLOSED)
        try:
            events = _POLL.poll(0)
        finally:
            _POLL.unregister(self._descriptor)
        return events[0][1] if events else 0

    def _update_reading(self) -> None:
        should_read = self._is_started and (self._is_discarding or not (self._is_paused or self._is_blocked))
        if should_read and not self.is_reading:
            self.is_reading = True
            self.transport.resume_reading()
        elif self.is_reading and not should_read:
            self.is_reading = False
            self.transport.pause_reading()


def enable_keepalive(descriptor: int) -> None:
    """Have the kernel ask the peer of an idle TCP connection whether it is there.

    What is written goes out at once: event loops set TCP_NODELAY themselves.
    """
    # To set options any family will do; one that is named is not asked for.
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in zip(KEEPALIVE, next(_KEEPALIVE_CYCLE), strict=True):
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
    except OSError:
        # The peer may be gone already; reading says so.
        pass
    finally:
        # It is the transport's.
        sock.detach()
