"""Sockets of one client connection and of its connections to targets: reading, writing, timers, tasks and closing.

A target connection may outlive its client. While a client waits, it is not read, so waiting costs no memory.
Back-pressure applies to each direction: a side is read only while the other side is not backlogged.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final

from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import StartHook
from mitmproxy.utils import asyncio_utils

from addons.net.connect import TargetServer, connect
from addons.net.hooks import run_hook
from addons.net.stage import Drain, Stage, TimerExpired, TimerKind
from addons.net.tcp import TcpConnection

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTimeouts:
    """Timeouts for closing a connection, in seconds."""

    flush: float = 1.0
    """Time for a peer to read the unsent bytes after its connection was closed."""
    linger: float = 5.0
    """Time for a client to read the last response or a refusal and to close. Its input is discarded meanwhile."""
    poll: float = 1.0
    """Interval of the check whether the client has read the last response."""


CLOSE_TIMEOUTS: Final = CloseTimeouts()
TIMER_RESOLUTION: Final = 0.001
"""Resolution of libuv's clock in seconds. Its timers may fire this much too early."""
MAX_CLOSED: Final = 8
"""Number of connections of one client above which the closed ones are removed."""
_READABLE: Final = (ConnectionState.OPEN, ConnectionState.CAN_READ)
_WRITABLE: Final = (ConnectionState.OPEN, ConnectionState.CAN_WRITE)
"""Connection states, compared with `in` because `&` of Python's flags costs a microsecond."""


class Sockets:
    """Connections of one client, created before any byte of the client is read.

    They serve one stage after the other. Once the last response is written, or the client connection is closed or
    aborted, the stage gets no more data and events, but one last call of `connection_lost`.
    """

    def __init__(
        self, client: Client, tcp: TcpConnection, close_timeouts: CloseTimeouts, on_closed: Callable[[Client], None]
    ) -> None:
        """Create the sockets. `on_closed` is called once, soon after the connection of `client` was closed or lost."""
        self._close_timeouts = close_timeouts
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._client_tcp = tcp
        self._connections: dict[str, tuple[Connection, TcpConnection]] = {client.id: (client, tcp)}
        """Connections by identifier, because mitmproxy's connections have a slow hash function in Python."""
        self._dials: dict[Connection, asyncio.Task[None]] = {}
        self._stage: Stage | None = None
        self._is_closing = self._close_reported = False
        self._timer_handle: asyncio.TimerHandle | None = None
        self._timer_at = self._due_at = 0.0
        """Times at which `_timer_handle` fires and at which `_timer_callback` is due, on the event loop's clock."""
        self._timer_callback: Callable[[], None] | None = None
        self._timer_kind = TimerKind.CLIENT
        """Kind of the timer that was started last."""
        self._timer_id = 0
        self._close_callbacks: list[Callable[[], None]] = []
        self._authenticated_callbacks: list[Callable[[], None]] | None = []
        """None after the client has been authenticated."""
        self.is_draining = False
        """The proxy is draining, so the current request is the last one."""
        self.client = client
        self.source_ip = str(client.peername[0])

    @property
    def local_ip(self) -> str:
        """Address of the proxy that the client connected to."""
        return str(self.client.sockname[0])

    def set_stage(self, stage: Stage) -> None:
        """Pass all further data and events to `stage` instead of the previous stage."""
        self._stage = stage
        for connection, tcp in self._connections.values():
            if connection.state is not ConnectionState.CLOSED:
                self._set_callbacks(connection, tcp, stage)

    def dial(self, server: TargetServer, on_done: Callable[[str], None]) -> None:
        """Connect to a target. `on_done` gets the reason of a failure, or "" on success. `close` cancels this."""

        async def run() -> None:
            outcome: TcpConnection | str = ""
            try:
                outcome = await connect(server, self.client)
                self._dials.pop(server, None)
                if isinstance(outcome, TcpConnection):
                    self.attach(server, outcome)
            except Exception as error:
                # No other code awaits this task, so an exception would leave both connections open.
                if isinstance(outcome, TcpConnection):
                    outcome.abort()
                self._on_error(error)
            else:
                self._call_stage(on_done, outcome if isinstance(outcome, str) else "")
                if isinstance(outcome, TcpConnection):
                    # Start last, so that its data and EOF reach a stage that expects them.
                    outcome.start()

        task = asyncio_utils.create_task(run(), name="connector dial", keep_ref=True, client=self.client.peername)
        if not task.done():
            self._dials[server] = task

    def attach(self, server: Connection, tcp: TcpConnection) -> None:
        """Take over an open connection to a target, and couple it with the client connection."""
        if len(self._connections) > MAX_CLOSED:
            self._drop_closed()
        self._connections[server.id] = server, tcp
        if self._is_closing:
            self.close(server)
            return
        if self._stage is not None:
            self._set_callbacks(server, tcp, self._stage)
        tcp.couple(self._client_tcp)

    def detach(self, server: Connection) -> None:
        """Give up an open connection to a target without closing it, so that it can outlive this client."""
        _, tcp = self._connections.pop(server.id)
        tcp.uncouple()
        tcp.clear_callbacks()
        tcp.resume_reading()

    def tcp(self, connection: Connection) -> TcpConnection:
        """Return the TCP connection of an open connection."""
        return self._connections[connection.id][1]

    def sender(self, connection: Connection) -> Callable[[bytes | memoryview], None]:
        """Return the function that writes to an open connection."""
        return self._connections[connection.id][1].send

    def send_eof(self, connection: Connection) -> None:
        """Send FIN after the sent data. The peer may continue to send."""
        state = connection.state
        if state not in _WRITABLE:
            return
        _, tcp = self._connections[connection.id]
        if not tcp.send_eof():
            return
        connection.state = ConnectionState.CAN_READ if state in _READABLE else ConnectionState.CLOSED
        if connection.state is ConnectionState.CLOSED and not tcp.unsent_bytes:
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close a connection after its unsent bytes, or cancel the attempt to open it."""
        connection.state = ConnectionState.CLOSED
        entry = self._connections.get(connection.id)
        if entry is not None:
            entry[1].close()
        elif (dial := self._dials.pop(connection, None)) is not None:
            dial.cancel()
        if connection is self.client:
            self._is_closing = True
            if not self._close_reported:
                self._close_reported = True
                self._loop.call_soon(self._on_closed, self.client)

    def pause_reading(self, connection: Connection | None = None) -> None:
        """Do not read `connection` (default: the client) until `resume_reading`."""
        (self._client_tcp if connection is None else self.tcp(connection)).pause_reading()

    def resume_reading(self, connection: Connection | None = None) -> None:
        (self._client_tcp if connection is None else self.tcp(connection)).resume_reading()

    def start_timer(self, seconds: float, kind: TimerKind) -> int:
        """Replace the current timer: deliver a TimerExpired in `seconds`. Return its `timer_id`."""
        self._timer_id += 1
        self._timer_kind = kind
        self._call_later(seconds, self._on_timer_expired)
        return self._timer_id

    def stop_timer(self) -> None:
        self._timer_callback = None

    def linger(self, *, until_sent: bool) -> None:
        """Give the client time to read the last response before the connection closes, so that it sees no reset.

        With `until_sent`, wait without a limit until all bytes are sent, as in the middle of a response.
        """
        self._is_closing = True
        self.stop_timer()
        self._client_tcp.discard()
        if until_sent and self._client_tcp.unsent_bytes:
            self._call_later(self._close_timeouts.poll, partial(self.linger, until_sent=True))
        elif self.client.state is ConnectionState.CLOSED:
            self.close(self.client)
        else:
            self._call_later(self._close_timeouts.linger, self.abort)

    def close_all(self) -> None:
        """Close both sides without a TLS close_notify. The client has `flush` seconds to read its unsent bytes."""
        self.stop_timer()
        for connection, tcp in self._connections.values():
            if tcp is not self._client_tcp:
                tcp.transport.abort()
                self.close(connection)
        self._client_tcp.transport.close()
        self.close(self.client)

    def abort(self) -> None:
        """Close both sides now and discard unsent bytes."""
        self.stop_timer()
        for connection, tcp in self._connections.values():
            tcp.transport.abort()
            self.close(connection)

    def run_task[T](self, name: str, work: Coroutine[Any, Any, T], fallback: T, on_done: Callable[[T], None]) -> None:
        """Pass the result of `work` to `on_done`, or `fallback` if it raises. After the end of the stage, do nothing.

        `name` is for the log.
        """

        async def run() -> None:
            try:
                result = await work
            except Exception as error:
                # No other code awaits this task, so the stage would wait forever. The text of the error may contain
                # what was sent.
                logger.error("%s failed: %s", name, type(error).__name__)
                result = fallback
            self._call_stage(on_done, result)

        asyncio_utils.create_task(run(), name=f"connector {name}", keep_ref=True)

    def wait_for_hook(self, hook: StartHook, on_done: Callable[[], None]) -> None:
        """Run a hook and call `on_done` afterwards, unless the stage has ended meanwhile."""
        self.run_hook(hook, lambda: self._call_stage(lambda _: on_done(), None))

    def run_hook(self, hook: StartHook, on_done: Callable[[], None]) -> None:
        """Run a hook and call `on_done` afterwards, also if the stage has ended meanwhile."""

        async def run() -> None:
            await run_hook(hook)
            on_done()

        asyncio_utils.create_task(run(), name=f"connector hook {hook.name}", keep_ref=True)

    @property
    def is_client_closed(self) -> bool:
        """True if the client has closed its side, even if the proxy has not read the EOF yet."""
        return self._client_tcp.is_peer_closed

    @property
    def is_client_closed_while_paused(self) -> bool:
        """True if the client has closed its side and the proxy cannot notice, because it has paused reading."""
        return not self._client_tcp.is_reading and self._client_tcp.is_peer_closed

    @property
    def is_client_dead(self) -> bool:
        """True if the connection of the client is dead in both directions."""
        return self._client_tcp.is_dead

    def call_when_authenticated(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, as soon as the client is authenticated."""
        if self._authenticated_callbacks is None:
            callback()
        else:
            self._authenticated_callbacks.append(callback)

    def on_authenticated(self) -> None:
        """Run the callbacks, because the client has been authenticated."""
        callbacks, self._authenticated_callbacks = self._authenticated_callbacks, None
        for callback in callbacks or ():
            callback()

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` once after the client connection was closed or lost."""
        self._close_callbacks.append(callback)

    def notify_closed(self) -> None:
        """Finish after the client connection was closed or lost: run the callbacks and close the target connections."""
        self.stop_timer()
        self._is_closing = True
        stage, self._stage = self._stage, None
        callbacks, self._close_callbacks = self._close_callbacks, []
        try:
            for callback in callbacks:
                callback()
            if stage is not None:
                stage.connection_lost()
        finally:
            self._close_targets()

    def _close_targets(self) -> None:
        for server in tuple(self._dials):
            self.close(server)
        has_unsent = False
        for connection, tcp in self._connections.values():
            if connection.state is not ConnectionState.CLOSED:
                self.close(connection)
            has_unsent = has_unsent or bool(tcp.unsent_bytes)
        if has_unsent:
            self._call_later(self._close_timeouts.flush, self._drop_connections)
        else:
            self._drop_connections()

    def deliver(self, event: events.Event) -> None:
        """Give `event` to the stage."""
        if isinstance(event, Drain):
            self.is_draining = True
        if self._stage is not None:
            self._call_stage(self._stage.handle_event, event)

    def _call_stage[T](self, callback: Callable[[T], None], value: T) -> None:
        if self._is_closing or self._stage is None:
            return
        try:
            callback(value)
        except Exception as error:
            # After any exception, the state of the stage is unknown.
            self._on_error(error)

    def _on_error(self, error: Exception) -> None:
        """Abort after an exception of a stage. mitmproxy and asyncio would log it and leave the connection open."""
        # The text and locals of our own errors contain nothing that was sent. Those of other errors may.
        logger.error("connection ended: %s in the data path", type(error).__name__, exc_info=_without_text(error))
        self.abort()

    def _drop_connections(self) -> None:
        self._timer_callback = None
        if self._timer_handle is not None:
            self._timer_handle.cancel()
        for _, tcp in self._connections.values():
            tcp.dispose()
        self._connections.clear()

    def _drop_closed(self) -> None:
        """Remove closed target connections. A client may use any number of targets one after the other."""
        for connection_id, (connection, tcp) in tuple(self._connections.items()):
            if connection.state is ConnectionState.CLOSED and connection is not self.client and not tcp.unsent_bytes:
                del self._connections[connection_id]

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` in `seconds` instead of the current callback.

        A handle that fires earlier stays scheduled, because most timers are replaced long before they expire. Creating
        and cancelling a handle for each would cost more than the operation that the timer limits.
        """
        self._timer_callback = callback
        self._due_at = self._loop.time() + seconds
        if self._timer_handle is not None:
            if self._timer_at <= self._due_at:
                return
            self._timer_handle.cancel()
        self._timer_at = self._due_at
        self._timer_handle = self._loop.call_at(self._due_at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer_handle = None
        callback = self._timer_callback
        if callback is None:
            return
        remaining = self._due_at - self._loop.time()
        if remaining > TIMER_RESOLUTION:
            self._call_later(remaining, callback)
            return
        self._timer_callback = None
        callback()

    def _on_timer_expired(self) -> None:
        self.deliver(TimerExpired(self._timer_kind, self._timer_id))

    def _set_callbacks(self, connection: Connection, tcp: TcpConnection, stage: Stage) -> None:
        tcp.on_data = partial(stage.data_received, connection)
        tcp.on_eof = partial(self._on_eof, connection)
        tcp.on_error = self._on_error

    def _on_eof(self, connection: Connection, lost: bool) -> None:
        state = connection.state
        was_at_eof = state not in _READABLE
        is_writable = state in _WRITABLE and not lost
        connection.state = ConnectionState.CAN_WRITE if is_writable else ConnectionState.CLOSED
        if self._stage is not None and not self._is_closing and not was_at_eof:
            self._stage.eof_received(connection)
        if connection.state is ConnectionState.CLOSED:
            self.close(connection)


class PlainStream:
    """`ClientStream` of a connection without TLS."""

    def __init__(self, connection: Connection, sockets: Sockets) -> None:
        self.connection = connection
        self.at_eof = False
        self.is_truncated = False
        self.receive: Callable[[bytes | memoryview], bytes] = bytes
        self.send = sockets.sender(connection)
        self._sockets = sockets

    def send_eof(self, *, clean: bool = True) -> None:
        """Send FIN. Plain text has no close_notify, so `clean` makes no difference."""
        self._sockets.send_eof(self.connection)


def _without_text(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    return RuntimeError, RuntimeError(type(error).__name__), error.__traceback__
