"""Stage after a 101: bytes pass unchanged in both directions until one side ends (exec, attach, port-forward)."""

import logging

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.live_connections import LiveAccess
from addons.http1.websocket import FrameTracker, render_going_away, render_policy_violation
from addons.net.sockets import Sockets
from addons.net.stage import ShutDown
from addons.net.tls import ClientStream
from addons.records.session_row import SessionRow
from addons.relay.exchange import Exchange
from addons.relay.shared_context import SharedContext
from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.names import ObjectKey

logger = logging.getLogger(__name__)


class Pipe:
    """Stage of a client connection after an upgrade. `exchange` ends together with the pipe.

    `frame_tracker` tracks the frames that the client gets. It is None if the protocol is not WebSocket.
    """

    def __init__(
        self,
        context: SharedContext,
        sockets: Sockets,
        client: ClientStream,
        upstream: UpstreamConnection,
        exchange: Exchange,
        frame_tracker: FrameTracker | None,
    ) -> None:
        self._context = context
        self._sockets = sockets
        self._client = client
        self._upstream = upstream
        self._exchange = exchange
        self._first_close_reason = ""
        """Text that names the side that ended first; empty while both are open."""
        self._frame_tracker = frame_tracker
        context.live_connections.add(self)

    def start(self, initial_data: bytes) -> None:
        """Start passing bytes. `initial_data` is what the client sent after its request."""
        if initial_data:
            self._send_to_target(initial_data)
        self._sockets.resume_reading()
        if self._upstream.at_eof:
            self._handle_target_eof()

    # Interface `LiveConnection`

    @property
    def key(self) -> ObjectKey | None:
        return self._exchange.connector_request.key if self._exchange.connector_request is not None else None

    @property
    def live_access(self) -> LiveAccess | None:
        """Access with which the upgrade was authorized; None after its end."""
        return self._exchange.live_access

    @property
    def target_ip(self) -> str | None:
        return self._upstream.ip

    def session_row(self, *, commands: bool) -> SessionRow | None:
        return self._exchange.session_row(commands=commands)

    def close(self, reason: str) -> None:
        """Close both sides immediately. A WebSocket client gets the reason, unless a frame is incomplete."""
        if self._frame_tracker is not None and self._frame_tracker.is_between_frames and not self._upstream.at_eof:
            self._send_to_client(render_policy_violation(reason))
        self._exchange.record_end(reason, self._context.recorders)
        self._sockets.close_all()

    def close_if_client_gone(self) -> None:
        """Close the connection if the client is gone.

        This is not noticed otherwise while the client is not read because the target is slow.
        """
        if not self._exchange.is_recorded and self._sockets.is_client_dead:
            self._terminate("the client closed the connection")

    # Interface `Stage`

    def data_received(self, connection: Connection, data: memoryview) -> None:
        if connection is self._client.connection:
            self._receive_from_client(data)
        elif connection is self._upstream.connection and not self._upstream.at_eof:
            self._receive_from_target(data)

    def eof_received(self, connection: Connection) -> None:
        if connection is not self._client.connection:
            if not self._upstream.at_eof:
                self._upstream.on_eof()
                self._handle_target_eof()
        elif not self._client.at_eof:
            self._client.at_eof = self._client.is_truncated = True
            self._handle_client_eof()

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, ShutDown):
            self._shut_down(event.reason)

    def connection_lost(self) -> None:
        self._context.live_connections.remove(self)
        self._exchange.record_end("the connection ended", self._context.recorders)

    def _receive_from_client(self, data: memoryview) -> None:
        if self._client.at_eof:
            return
        try:
            plaintext = self._client.receive(data)
        except ConnectionError as error:
            logger.debug("client %s: %s", self._sockets.source_ip, error)
            self._sockets.close(self._client.connection)
            return
        if plaintext:
            self._send_to_target(plaintext)
        if self._client.at_eof:
            self._handle_client_eof()

    def _send_to_target(self, data: bytes) -> None:
        self._exchange.bytes_in += len(data)
        self._upstream.send(data)

    def _receive_from_target(self, data: memoryview) -> None:
        plaintext = self._upstream.receive(data)
        if plaintext:
            self._send_to_client(plaintext)
        if self._upstream.at_eof:
            self._handle_target_eof()

    def _send_to_client(self, data: bytes) -> None:
        self._exchange.bytes_out += len(data)
        if self._frame_tracker is not None:
            self._frame_tracker.receive(data)
        self._client.send(data)

    # The end

    def _handle_client_eof(self) -> None:
        """Pass the client's EOF on. The other direction stays open."""
        if not self._upstream.at_eof:
            self._first_close_reason = "the client closed the connection"
            self._upstream.send_eof(clean=not self._client.is_truncated)
        else:
            self._terminate(self._first_close_reason)

    def _handle_target_eof(self) -> None:
        """Pass the target's EOF on. The other direction stays open."""
        clean_eof = self._upstream.clean_eof
        cause = "closed the connection" if clean_eof else "ended without its TLS session"
        self._first_close_reason = self._first_close_reason or f"the target {cause}"
        self._client.send_eof(clean=clean_eof)
        if self._client.at_eof:
            self._close_gracefully(self._first_close_reason)

    def _shut_down(self, reason: str) -> None:
        """Close the pipe as its protocol requires.

        If a frame is incomplete, do nothing. `ShutDown` is delivered again.
        """
        if self._frame_tracker is not None:
            if not self._frame_tracker.is_between_frames:
                return
            if not self._upstream.at_eof:
                self._send_to_client(render_going_away(reason))
        self._close_gracefully(reason)

    def _close_gracefully(self, reason: str) -> None:
        self._exchange.record_end(reason, self._context.recorders)
        self._upstream.close()
        self._client.send_eof()
        self._sockets.linger(until_sent=True)

    def _terminate(self, reason: str) -> None:
        self._exchange.record_end(reason, self._context.recorders)
        self._upstream.close()
        self._client.send_eof()
        self._sockets.close(self._client.connection)
