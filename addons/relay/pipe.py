"""After a 101: bytes pass as they are, in both directions, until a side ends (exec, attach, port-forward)."""

import logging

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.live_connections import LiveAccess
from addons.http1.websocket import FrameTracker, render_going_away, render_policy_violation
from addons.net.sockets import Sockets
from addons.net.stage import ShutDown
from addons.net.tls import ClientStream
from addons.relay.exchange import Exchange
from addons.relay.shared_context import SharedContext
from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.names import ObjectKey

logger = logging.getLogger(__name__)


class Pipe:
    """The stage of a client connection whose request was upgraded: `exchange` lives as long as the pipe does."""

    def __init__(
        self,
        shared: SharedContext,
        sockets: Sockets,
        client: ClientStream,
        upstream: UpstreamConnection,
        exchange: Exchange,
    ) -> None:
        self._shared = shared
        self._sockets = sockets
        self._client = client
        self._upstream = upstream
        self._exchange = exchange
        self._first_close_reason = ""
        """Which side has ended, where one has."""
        response = exchange.response
        self._frame_tracker: FrameTracker | None = response.frame_tracker if response is not None else None
        shared.live_connections.add(self)

    def start(self, initial_data: bytes) -> None:
        """`early` is what the client has said after its request."""
        if initial_data:
            self._send_to_target(initial_data)
        self._sockets.resume_reading()
        if self._upstream.at_eof:
            self._handle_target_eof()

    # What is live, for `Streams`

    @property
    def key(self) -> ObjectKey | None:
        return self._exchange.connector_request.key if self._exchange.connector_request is not None else None

    @property
    def live_access(self) -> LiveAccess | None:
        """What it was admitted with."""
        return self._exchange.live_access

    def close(self, reason: str) -> None:
        """End both sides at once; a WebSocket between two frames is told why."""
        if self._frame_tracker is not None and self._frame_tracker.is_between_frames and not self._upstream.at_eof:
            self._send_to_client(render_policy_violation(reason))
        self._exchange.record_end(reason, self._shared.recorders)
        self._sockets.close_all()

    def close_if_client_gone(self) -> None:
        """A client that is not read, as the target takes nothing, does not tell that it has gone."""
        if not self._exchange.is_recorded and self._sockets.is_client_dead:
            self._terminate("the client closed the connection")

    # The stage

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
        self._shared.live_connections.remove(self)
        self._exchange.record_end("the connection ended", self._shared.recorders)

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
        """The client sends nothing more; the other direction may go on."""
        if not self._upstream.at_eof:
            self._first_close_reason = "the client closed the connection"
            self._upstream.send_eof(clean=not self._client.is_truncated)
        else:
            self._terminate(self._first_close_reason)

    def _handle_target_eof(self) -> None:
        """The target sends nothing more; the other direction may go on."""
        clean_eof = self._upstream.clean_eof
        cause = "closed the connection" if clean_eof else "ended without its TLS session"
        self._first_close_reason = self._first_close_reason or f"the target {cause}"
        self._client.send_eof(clean=clean_eof)
        if self._client.at_eof:
            self._close_gracefully(self._first_close_reason)

    def _shut_down(self, reason: str) -> None:
        """Say goodbye in the way of the protocol; not in the middle of a frame: then it is asked again."""
        if self._frame_tracker is not None:
            if not self._frame_tracker.is_between_frames:
                return
            if not self._upstream.at_eof:
                self._send_to_client(render_going_away(reason))
        self._close_gracefully(reason)

    def _close_gracefully(self, reason: str) -> None:
        self._exchange.record_end(reason, self._shared.recorders)
        self._upstream.close()
        self._client.send_eof()
        self._sockets.linger(until_sent=True)

    def _terminate(self, reason: str) -> None:
        self._exchange.record_end(reason, self._shared.recorders)
        self._upstream.close()
        self._client.send_eof()
        self._sockets.close(self._client.connection)
