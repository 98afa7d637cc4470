"""One TCP connection of the data path, as an asyncio protocol that passes bytes on as it reads them.

asyncio's streams would cost two copies and two event loop iterations for each read. mitmproxy's handlers would cost
four tasks for each client. Connections of clients and to targets therefore use this protocol from their first byte.
"""

import asyncio
import itertools
import logging
import os
import select
import socket
from collections.abc import Callable
from enum import Enum
from typing import Final, cast

from addons.net.backlog import Backlog

logger = logging.getLogger(__name__)

READ_SIZE: Final = 131072
"""Maximum number of bytes of one read."""
_BUFFER: Final = memoryview(bytearray(READ_SIZE))
"""Read buffer shared by all connections, which run on one event loop. A receiver copies the bytes it needs."""
SMALL_READ_SIZE: Final = 16384
"""Maximum number of bytes of one read while the backlog is congested."""
_SMALL_BUFFER: Final = _BUFFER[:SMALL_READ_SIZE]
_LARGE_WRITE: Final = 16384
"""Number of bytes above which a write goes to the kernel at once, because a transport copies a view. Smaller writes
go through the transport."""
BACKLOG: Final = Backlog()
"""Backlog of all connections."""
KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: range(12, 17), socket.TCP_KEEPINTVL: range(8, 11), socket.TCP_KEEPCNT: range(5, 6),
}  # fmt: skip
"""TCP keepalive: seconds of silence before the first probe, seconds between probes, and lost probes that close a
connection. A connection closes 52 to 66 s after the last packet of its peer.

Each connection uses the next of all combinations. With thousands of idle connections, the kernel would fire equal
timers together. A CPU accepts at most net.core.netdev_max_backlog packets (1,000) at once from loopback and veth. It
would drop the others, and the same ones at each try. The kernel distinguishes timers of up to 16 s to a sixteenth, and
longer ones to an eighth (kernel/time/timer.c).
"""
_KEEPALIVE_CYCLE: Final = itertools.cycle(itertools.product(*KEEPALIVE.values()))
MAX_UNSENT: Final = 4 * 1024 * 1024
"""Maximum number of unsent bytes. Back-pressure stops far below, but not for bytes that TLS sends by itself."""
_POLL: Final = select.poll()
"""Poll object shared by all connections, which run on one event loop. It polls one connection with one system call."""
_POLL_DEAD: Final = select.POLLHUP | select.POLLERR
_POLL_CLOSED: Final = getattr(select, "POLLRDHUP", 0) | _POLL_DEAD
"""Events of poll(2) after the peer has sent FIN, even with unread bytes before the FIN. Only Linux has POLLRDHUP."""


def _ignore(_: object) -> None:
    """Ignore a callback's argument, before `start` and after `clear_callbacks`."""


def _noop() -> None:
    pass


class Delivery(Enum):
    """Use of the bytes that are read."""

    EARLY = "they wait for `start`"
    CALLBACK = "`on_data` gets them"
    DISCARD = "they are discarded"


_EARLY, _CALLBACK, _DISCARD = Delivery
"""Names without a lookup in the enumeration, which Python repeats for each piece of data."""


class TcpConnection(asyncio.BufferedProtocol):
    """TCP connection that calls `on_data` with the bytes it reads, from `start` on.

    `on_eof` is called with False when the peer has sent FIN, and with True when the connection is lost. `on_error` gets
    the exceptions of both callbacks, because asyncio would log them with their data. The connection is read while it is
    not paused and the connection it is coupled with is not backlogged.
    """

    transport: asyncio.Transport

    def __init__(self, on_connected: Callable[["TcpConnection"], None] = _ignore, max_unsent: int = MAX_UNSENT) -> None:
        """Create the protocol. `on_connected` is called once when the connection is open, and may call `start`."""
        self.on_lost: Callable[[], None] = _noop
        """Called when the connection is lost. `clear_callbacks` does not clear it."""
        self._on_connected = on_connected
        self._max_unsent = max_unsent
        self._descriptor = -1
        """File descriptor of the socket, valid as long as the transport is not closing."""
        self._opposite: TcpConnection | None = None
        self._delivery = _EARLY
        self._early_data = b""
        """Bytes that were read before `start`."""
        self.is_reading = True
        """The transport reads from the kernel."""
        self._is_paused = self._is_delivering = False
        self._is_backlogged = self._is_eof_sent = self._is_peer_closed = False
        self.clear_callbacks()

    def clear_callbacks(self) -> None:
        """Reset `on_data`, `on_eof` and `on_error`."""
        self.on_data: Callable[[memoryview], None] = _ignore
        self.on_eof: Callable[[bool], None] = _ignore
        self.on_error: Callable[[Exception], None] = _ignore

    def start(self) -> None:
        """Start to call `on_data` and `on_eof`, first with what was read earlier."""
        if self._delivery is not _EARLY:
            return
        self._delivery = _CALLBACK
        data, self._early_data = self._early_data, b""
        for start in range(0, len(data), READ_SIZE):
            piece = data[start : start + READ_SIZE]
            _BUFFER[: len(piece)] = piece
            self.buffer_updated(len(piece))
        if self._is_peer_closed:
            self._report_eof(self.transport.is_closing())
        self._update_reading()

    def couple(self, other: "TcpConnection") -> None:
        """Read each connection only while the other is not backlogged. This ends earlier couplings of both."""
        self.uncouple()
        other.uncouple()
        self._opposite, other._opposite = other, self
        self._update_reading()
        other._update_reading()

    def uncouple(self) -> None:
        """End the coupling with the opposite connection."""
        opposite, self._opposite = self._opposite, None
        if opposite is not None:
            opposite._opposite = None
            opposite._update_reading()
            self._update_reading()

    @property
    def is_connected(self) -> bool:
        """True if `connection_made` was called. asyncio continues even if that raised."""
        return hasattr(self, "transport")

    @property
    def is_quiet(self) -> bool:
        """True if the connection is open and the kernel has no unread byte, EOF or error (tcp(7))."""
        return (
            self._descriptor >= 0 and not self._is_peer_closed and not self.transport.is_closing() and not self._poll()
        )

    @property
    def is_peer_closed(self) -> bool:
        """True if the peer has closed its side, even with unread bytes. False if the platform cannot tell."""
        return self._is_peer_closed or self.transport.is_closing() or bool(self._poll() & _POLL_CLOSED)

    @property
    def is_dead(self) -> bool:
        """True if the connection is closed in both directions, even if the proxy has not read that yet."""
        return self.transport.is_closing() or bool(self._poll() & _POLL_DEAD)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not accepted yet."""
        return self.transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Do not read until `resume_reading`. The bytes of the current read are still delivered."""
        self._is_paused = True
        if not self._is_delivering:
            self._update_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if not self._is_delivering:
            self._update_reading()

    def discard(self) -> None:
        """Read until EOF without delivering the bytes."""
        self._delivery = _DISCARD
        self.resume_reading()

    def send(self, data: bytes | memoryview) -> None:
        """Write `data`. The caller may reuse a view afterwards. On a closed connection, `data` is discarded."""
        if self.transport.is_closing() or self._is_eof_sent:
            return
        if len(data) > _LARGE_WRITE and not self.unsent_bytes:
            data = data[self._write_now(data) :]
        if data:
            self.transport.write(data if isinstance(data, bytes) else bytes(data))
        if self._is_backlogged and self.unsent_bytes > self._max_unsent:
            self.transport.abort()

    def close(self) -> None:
        """Clear the callbacks and close the connection after its unsent bytes."""
        self.clear_callbacks()
        self.transport.close()

    def send_eof(self) -> bool:
        """Send FIN after the unsent bytes. Return False if the connection is lost. Then `on_eof` reports it."""
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
        """Close the connection now and discard its unsent bytes."""
        self.transport.abort()

    def dispose(self) -> None:
        """Abort and drop all references, after the client connection has ended."""
        self.clear_callbacks()
        self.transport.abort()
        self._opposite = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport, but have the same methods.
        self.transport = cast("asyncio.Transport", transport)
        try:
            self._on_open()
        except Exception as error:
            # An event loop would log the error with its text, and some would leave the connection open.
            logger.error("connection refused: %s", type(error).__name__)
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _SMALL_BUFFER if BACKLOG.is_congested else _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._delivery is not _CALLBACK:
            if self._delivery is _EARLY:
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
        """Write to the kernel. Return the number of bytes that it accepted."""
        try:
            return os.write(self._descriptor, data)
        except OSError:
            # The kernel buffer is full, or the transport will meet the same error and report it.
            return 0

    def _on_open(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            self._descriptor = sock.fileno()
            enable_keepalive(self._descriptor)
        self._on_connected(self)
        self._update_reading()

    def _set_backlogged(self, backlogged: bool) -> None:
        self._is_backlogged = backlogged
        if backlogged:
            BACKLOG.add(self)
        else:
            BACKLOG.remove(self)
        if self._opposite is not None:
            self._opposite._update_reading()

    def _report_eof(self, lost: bool) -> None:
        if self._delivery is _EARLY:
            # `start` reports it.
            return
        try:
            self.on_eof(lost)
        except Exception as error:
            self.on_error(error)

    def _poll(self) -> int:
        """Return the events of poll(2) for the socket, without waiting. 0 if there is no socket."""
        if self._descriptor < 0:
            return 0
        _POLL.register(self._descriptor, select.POLLIN | _POLL_CLOSED)
        try:
            events = _POLL.poll(0)
        finally:
            _POLL.unregister(self._descriptor)
        return events[0][1] if events else 0

    def _update_reading(self) -> None:
        if self._delivery is _CALLBACK:
            opposite = self._opposite
            should_read = not self._is_paused and (opposite is None or not opposite._is_backlogged)
        else:
            should_read = self._delivery is _DISCARD
        if should_read is self.is_reading:
            return
        self.is_reading = should_read
        if should_read:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()


def enable_keepalive(descriptor: int) -> None:
    """Enable TCP keepalive, with which the kernel detects that the peer of an idle connection has vanished.

    TCP_NODELAY needs no call here, because event loops set it.
    """
    # Any address family works for setting options. With an explicit one, Python does not query the socket for it.
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in zip(KEEPALIVE, next(_KEEPALIVE_CYCLE), strict=True):
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
    except OSError:
        # The connection may be reset already. Reading reports it.
        pass
    finally:
        # The transport owns the descriptor.
        sock.detach()
