"""Stage for the requests of a client connection. Each request gets its own access decision from current data.

- If either side closes, the client connection ends after the response.
- A replayable request (GET or HEAD without a body and without an upgrade) can be sent once more, on a new connection to
  the target. No other request is sent twice.
- Only a replayable request starts on a pooled connection of another client.
- No method blocks. The result of each operation arrives as a call. So a waiting request can be closed by a timer, by a
  revocation or by EOF of the client.
"""

import logging
import time
from enum import Enum

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.authorizer import AuthorizationResult, Authorizer
from addons.access.connector_request import ConnectorRequest
from addons.access.live_connections import LiveAccess
from addons.http1.framing import RequestReader
from addons.http1.messages import InvalidMessage, MessageEvent, RequestHead
from addons.net.dial import Dial
from addons.net.sockets import Sockets
from addons.net.stage import Drain, ShutDown, TimerExpired, TimerKind
from addons.net.tls import ClientStream, TlsStream
from addons.relay import replies
from addons.relay.exchange import Exchange
from addons.relay.pipe import Pipe
from addons.relay.response import TruncatedResponse
from addons.relay.routes import Route
from addons.relay.shared_context import SharedContext
from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import Forward, Inject
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.warning import expiry_warning_text, warning_header
from connector_store.domain.objects.models import Target

logger = logging.getLogger(__name__)


class Phase(Enum):
    """Phase of the requests on a connection."""

    HEAD = "a head is expected within the timeout"
    IDLE = "no request is running"
    DECISION = "waiting for the access decision or the connection to the target"
    RESPONSE = "the head of the request has been sent to the target"
    CLOSED = "no further request is served"


class Requests:
    """Stage of a client connection that serves requests, in a tunnel or for direct access."""

    def __init__(
        self,
        context: SharedContext,
        sockets: Sockets,
        authorizer: Authorizer,
        route: Route,
        client: ClientStream,
        reader: RequestReader,
    ) -> None:
        """Create the stage. `reader` is new, or has read the messages for `take_over`."""
        self.key: ObjectKey | None = None
        """Connector of the current or last request."""
        self._route = route
        self._context = context
        self._sockets = sockets
        self._authorizer = authorizer
        self._client = client
        self._reader = reader
        reader.max_head = context.max_header
        self._phase = Phase.IDLE
        self._exchange: Exchange | None = None
        self._upstream: UpstreamConnection | None = None
        self._dial: Dial | None = None
        self._has_warned = False
        """The client got the warning about the expiry of the Connector's credential, if one was due."""

    def take_over(self, messages: list[MessageEvent]) -> None:
        """Handle the messages that another stage has read. The first one is a head."""
        self._handle_messages(messages)
        if self._client.at_eof and self._phase is not Phase.CLOSED:
            # The EOF was read by the other stage, so `eof_received` is not called.
            self._handle_client_gone("closed the connection")

    def start(self, initial_data: bytes) -> None:
        """Start serving. `initial_data` is plaintext that arrived with the end of the TLS handshake."""
        self._await_head()
        if initial_data:
            self._handle_messages(self._reader.receive(initial_data))
        if self._client.at_eof and self._phase is not Phase.CLOSED:
            self._handle_client_gone("closed the connection")

    # Interface `LiveConnection`

    @property
    def live_access(self) -> LiveAccess | None:
        """Access with which the current request was authorized; None between requests."""
        return self._exchange.live_access if self._exchange is not None else None

    def close(self, reason: str) -> None:
        """Close both sides immediately, so that no message looks complete.

        The client of a watch gets the reason, unless an event is incomplete.
        """
        exchange = self._exchange
        if exchange is not None and exchange.response is not None and exchange.long_running_kind == "watch":
            error_event = exchange.response.render_error_event(reason)
            exchange.bytes_out += len(error_event)
            self._client.send(error_event)
        self._end_exchange(reason)
        self._phase = Phase.CLOSED
        self._sockets.close_all()

    def close_if_client_gone(self) -> None:
        """Close the connection if the client is gone.

        This is not noticed otherwise while the client is not read because its request waits.
        """
        if self._phase is not Phase.CLOSED and self._sockets.is_client_closed_unnoticed:
            self._handle_client_gone("closed the connection")

    # Interface `Stage`

    def data_received(self, connection: Connection, data: memoryview) -> None:
        if connection is self._client.connection:
            self._receive_from_client(data)
        elif self._dial is not None:
            self._dial.receive(connection, data)
        elif self._upstream is not None and connection is self._upstream.connection and not self._upstream.at_eof:
            self._receive_from_target(self._upstream, data)

    def eof_received(self, connection: Connection) -> None:
        if connection is self._client.connection:
            if not self._client.at_eof:
                self._client.at_eof = self._client.is_truncated = True
                self._handle_client_gone("closed the connection")
        elif self._dial is not None:
            self._dial.on_eof(connection)
        elif (upstream := self._upstream) is not None and connection is upstream.connection and not upstream.at_eof:
            upstream.on_eof()
            self._handle_target_eof(upstream)

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired) and event.kind is TimerKind.CLIENT:
            self._handle_client_gone("sent no whole request in time")
        elif isinstance(event, Drain):
            self._drain()
        elif isinstance(event, ShutDown):
            self._shut_down(event.reason)
        elif self._dial is not None:
            self._dial.handle_event(event)

    def connection_lost(self) -> None:
        self._phase = Phase.CLOSED
        self._context.live_connections.remove(self)
        self._end_exchange("the connection ended")

    # From the client

    def _receive_from_client(self, data: memoryview) -> None:
        try:
            plaintext = self._client.receive(data)
        except ConnectionError as error:
            logger.debug("client %s: %s", self._sockets.source_ip, error)
            self._phase = Phase.CLOSED
            self._sockets.close(self._client.connection)
            return
        if plaintext:
            self._handle_messages(self._reader.receive(plaintext))
        if self._client.at_eof and self._phase is not Phase.CLOSED:
            self._handle_client_gone("closed the connection")

    def _handle_buffered_input(self) -> None:
        """Handle unparsed bytes: wait for the rest of a head, or pause reading until the current request is done."""
        if self._exchange is not None:
            self._sockets.pause_reading()
        elif self._phase is Phase.IDLE:
            self._await_head()

    def _await_head(self) -> None:
        self._phase = Phase.HEAD
        self._sockets.start_timer(self._context.timeouts.client, TimerKind.CLIENT)

    def _handle_messages(self, messages: list[MessageEvent]) -> None:
        """Handle message events from the client."""
        body: list[bytes] = []
        for message in messages:
            if isinstance(message, RequestHead):
                self._start_request(message)
            elif isinstance(message, InvalidMessage):
                self._refuse_invalid(message)
            elif self._exchange is not None:
                self._exchange.append_body(message, body)
            if self._phase is Phase.CLOSED:
                return
        if body:
            self._send_to_target(b"".join(body))
        if self._reader.buffer and self._phase is not Phase.CLOSED:
            self._handle_buffered_input()

    def _send_to_target(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.bytes_in += len(data)
        if self._phase is Phase.RESPONSE and self._upstream is not None:
            self._upstream.send(data)
        else:
            exchange.unsent_body.append(data)

    # One request

    def _start_request(self, head: RequestHead) -> None:
        if self._phase is Phase.HEAD:
            self._sockets.stop_timer()
        self._phase = Phase.DECISION
        connector_request = self._route.connector_request
        if connector_request is None:
            resolved = self._route.resolve(head)
            if isinstance(resolved, Deny):
                self._exchange = self._create_exchange(head, None)
                self._refuse(resolved)
                return
            connector_request, head = resolved
        if connector_request.key != self.key:
            self._set_connector(connector_request.key)
        self._exchange = self._create_exchange(head, connector_request)
        authorization = self._authorizer.authorize_request(head, connector_request, self._on_decision)
        if authorization is not None:
            self._apply_decision(self._exchange, authorization)

    def _create_exchange(self, head: RequestHead, connector_request: ConnectorRequest | None) -> Exchange:
        return Exchange(
            head=head,
            connector_request=connector_request,
            identity=self._route.identity,
            source_ip=self._sockets.source_ip,
        )

    def _set_connector(self, key: ObjectKey | None) -> None:
        """Register the connection as a live connection of the Connector `key`."""
        self._context.live_connections.remove(self)
        self.key = key
        self._has_warned = False
        self._context.live_connections.add(self)

    def _on_decision(self, authorization: AuthorizationResult) -> None:
        exchange = self._require_exchange()
        exchange.authorization = authorization
        if isinstance(authorization.decision, Deny) or not self._close_if_client_gone():
            self._apply_decision(exchange, authorization)
            self._resume_reading()

    def _apply_decision(self, exchange: Exchange, authorization: AuthorizationResult) -> None:
        exchange.authorization = authorization
        if isinstance(authorization.decision, Deny):
            self._refuse(authorization.decision)
        elif isinstance(authorization.decision, Inject | Forward):
            if exchange.connector_request is not None and exchange.connector_request.authority is None:
                self._rewrite_for_target(exchange, exchange.connector_request, authorization.decision)
            self._connect_target(exchange, authorization.decision)

    def _rewrite_for_target(
        self, exchange: Exchange, connector_request: ConnectorRequest, decision: Inject | Forward
    ) -> None:
        """Rewrite a request that was addressed to the proxy for the target."""
        address = decision.target.address
        exchange.head = self._route.rewrite_head(exchange.head, address)
        exchange.connector_request = ConnectorRequest(connector_request.key, address.authority, connector_request.token)

    def _connect_target(self, exchange: Exchange, decision: Inject | Forward) -> None:
        upstream = self._upstream
        if upstream is not None and upstream.can_serve(decision.target, self._context.trust):
            self._send_head(exchange, decision, upstream)
            return
        self._release_target()
        context = self._context
        # The target may close the connection at the same moment. A client expects that only if it used it before.
        idle_connection = (
            context.upstream_pool.acquire(decision.target, context.trust)
            if exchange.is_replayable and not exchange.is_retry
            else None
        )
        if idle_connection is not None:
            self._upstream = idle_connection
            idle_connection.attach(self._sockets)
            self._send_head(exchange, decision, idle_connection)
            return
        self._sockets.pause_reading()
        self._dial = Dial(
            decision.target,
            self._sockets,
            context.resolver,
            context.checks.policy.addresses,
            context.trust,
            context.timeouts.connect,
            lambda outcome: self._on_dial_outcome(decision, outcome),
        )
        self._dial.start()

    def _on_dial_outcome(self, decision: Inject | Forward, outcome: TlsStream | Deny) -> None:
        """Send the request on the new connection. `decision` is still valid because nothing waits in between."""
        self._dial = None
        if isinstance(outcome, Deny):
            self._refuse(outcome)
            return
        trust = self._context.trust
        self._upstream = UpstreamConnection(outcome, decision.target, trust, self._sockets)
        if not self._upstream.can_serve(decision.target, trust):
            self._refuse(denial.internal_error())
        elif not self._close_if_client_gone():
            self._send_head(self._require_exchange(), decision, self._upstream)
            self._resume_reading()

    def _close_if_client_gone(self) -> bool:
        """Terminate if the client has closed the connection. Return True if the stage is closed."""
        if self._sockets.is_client_closed:
            self._terminate("the client closed the connection")
        return self._phase is Phase.CLOSED

    def _send_head(self, exchange: Exchange, decision: Inject | Forward, upstream: UpstreamConnection) -> None:
        exchange.is_connection_reused = upstream.request_count > 0
        context = self._context
        request_bytes = exchange.forward(
            decision,
            max_head=context.max_header,
            must_close=self._sockets.is_draining,
            forwarded_for=context.forwarded_for,
        )
        if exchange.response is not None and not self._has_warned:
            exchange.response.warnings += self._expiry_warnings(decision.target)
        upstream.start_request(request_bytes)
        self._phase = Phase.RESPONSE

    def _expiry_warnings(self, target: Target) -> list[Header]:
        """Return the warning for the first response of a connection if the credential expires soon."""
        expires_at = target.credential.expires_at if target.credential is not None else None
        if expires_at is None:
            return []
        text = expiry_warning_text(
            target, expires_at=expires_at, now=time.time(), expiry_warning=self._context.expiry_warning
        )
        return [warning_header(text)] if text is not None else []

    def _resume_reading(self) -> None:
        """Resume reading from the client, which was paused while the request waited."""
        if self._phase is Phase.RESPONSE and not self._reader.buffer:
            self._sockets.resume_reading()

    # From the target

    def _receive_from_target(self, upstream: UpstreamConnection, data: memoryview) -> None:
        plaintext = upstream.receive(data)
        exchange = self._exchange
        if plaintext and exchange is not None and exchange.response is not None:
            self._forward_response(exchange, exchange.response.receive(plaintext))
        elif plaintext:
            self._terminate("the target sent what was not asked for")
        if upstream.at_eof and self._phase is not Phase.CLOSED and self._upstream is upstream:
            self._handle_target_eof(upstream)

    def _handle_target_eof(self, upstream: UpstreamConnection) -> None:
        exchange = self._exchange
        response = exchange.response if exchange is not None else None
        connector_request = exchange.connector_request if exchange is not None else None
        if exchange is not None and connector_request is not None and exchange.should_retry and not upstream.tls_error:
            self._retry(exchange, connector_request)
        elif (
            exchange is None
            or response is None
            or (exchange.is_connection_reused and response.is_empty and not upstream.tls_error)
        ):
            # Without a proxy, the client would see the same EOF. It decides whether to send the request again.
            self._end_exchange("the target closed the connection")
            self._close_gracefully()
        else:
            self._forward_response(
                exchange, response.receive_eof(clean_eof=upstream.clean_eof, tls_error=upstream.tls_error)
            )

    def _retry(self, exchange: Exchange, connector_request: ConnectorRequest) -> None:
        """Send the request again on a new connection, after a new access decision."""
        exchange.is_retry = True
        exchange.response = None
        self._context.upstream_pool.retry_count += 1
        self._release_target()
        self._phase = Phase.DECISION
        authorization = self._authorizer.authorize_request(exchange.head, connector_request, self._on_decision)
        if authorization is not None:
            self._apply_decision(exchange, authorization)

    def _forward_response(self, exchange: Exchange, data: bytes) -> None:
        """Send `data` of the response to the client and handle the end of the response."""
        response = exchange.response
        if response is None:
            return
        if data:
            exchange.record_response(self._context.recorders)
            exchange.bytes_out += len(data)
            self._client.send(data)
        if isinstance(response.failure, Deny):
            if response.failure.cause == denial.TARGET_REFUSED:
                self._context.checks.target_tokens.discard_refused(response.target)
            self._refuse(response.failure)
        elif isinstance(response.failure, TruncatedResponse):
            self.close(response.failure.reason)
        elif response.is_upgraded:
            self._upgrade(exchange)
        elif response.is_complete:
            self._complete_exchange(exchange)

    def _upgrade(self, exchange: Exchange) -> None:
        """Replace this stage by a pipe, because both sides switch to another protocol."""
        if self._upstream is None:
            raise RuntimeError("no connection to the target")
        self._phase, self._exchange = Phase.CLOSED, None
        self._context.live_connections.remove(self)
        pipe = Pipe(self._context, self._sockets, self._client, self._upstream, exchange)
        self._sockets.set_stage(pipe)
        pipe.start(self._reader.take_pending())

    def _complete_exchange(self, exchange: Exchange) -> None:
        response, upstream = exchange.response, self._upstream
        allows_reuse = response is not None and response.allows_reuse
        if allows_reuse and exchange.is_request_complete and upstream is not None and not upstream.at_eof:
            upstream.idle_since = time.monotonic()
        self._has_warned = response is None or not response.warnings_omitted
        self._end_exchange("")
        must_close = (
            response is None
            or response.must_close
            or (not allows_reuse and response.has_unsolicited_data)
            or self._sockets.is_draining
        )
        if must_close or not exchange.is_request_complete or upstream is None or upstream.at_eof:
            self._close_gracefully()
            return
        self._phase = Phase.IDLE
        messages = self._reader.next_message()
        if messages is not None:
            self._sockets.resume_reading()
            self._handle_messages(messages)

    # The end

    def _refuse(self, deny: Deny) -> None:
        """Send a refusal without waiting for the rest of the request, and close the connection."""
        exchange = self._require_exchange()
        exchange.set_refusal(deny)
        self._send_final_response(exchange, replies.render_refusal(deny, with_body=exchange.head.method != b"HEAD"))

    def _send_final_response(self, exchange: Exchange, response: bytes) -> None:
        exchange.bytes_out += len(response)
        self._client.send(response)
        self._end_exchange("")
        self._close_gracefully(until_sent=False)

    def _refuse_invalid(self, message: InvalidMessage) -> None:
        if self._phase is Phase.RESPONSE:
            # The target has a part of the request, which must not look complete.
            self.close(f"the request is not HTTP/1.1: {message.reason}")
            return
        if self._exchange is None:
            key = self._route.key
            connector_request = ConnectorRequest(key, None, ParseError("", message.reason)) if key is not None else None
            self._exchange = self._create_exchange(RequestHead(b"", b"", 1, Headers(), 0), connector_request)
        self._refuse(denial.invalid_message(message.status, message.reason, self._context.max_header))

    def _drain(self) -> None:
        if self._exchange is None:
            self._close_gracefully()
        elif self._exchange.response is not None:
            self._exchange.response.must_close = True

    def _shut_down(self, reason: str) -> None:
        """End the current request in an orderly way.

        If a watch event is incomplete, do nothing. `ShutDown` is delivered again.
        """
        exchange = self._exchange
        response = exchange.response if exchange is not None else None
        if exchange is not None and response is not None:
            if response.is_close_delimited:
                # An orderly EOF would look like the end of the complete response.
                self.close(reason)
                return
            final_chunk = response.render_end() if exchange.long_running_kind == "watch" else b""
            if final_chunk is None:
                return
            if final_chunk and (self._upstream is None or not self._upstream.at_eof):
                exchange.bytes_out += len(final_chunk)
                self._client.send(final_chunk)
        self._end_exchange(reason)
        self._close_gracefully()

    def _handle_client_gone(self, cause: str) -> None:
        if self._exchange is None and self._reader.buffer:
            logger.debug("client %s: %s in the middle of a head", self._sockets.source_ip, cause)
        self._terminate(f"the client {cause}")

    def _close_gracefully(self, *, until_sent: bool = True) -> None:
        """Close the connection after a complete response. See `Sockets.linger` for `until_sent`."""
        self._phase = Phase.CLOSED
        self._release_target()
        self._client.send_eof()
        self._sockets.linger(until_sent=until_sent)

    def _terminate(self, reason: str) -> None:
        """Close the connection because one side is gone."""
        self._end_exchange(reason)
        self._phase = Phase.CLOSED
        self._release_target()
        self._client.send_eof()
        self._sockets.close(self._client.connection)

    def _release_target(self) -> None:
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self._upstream is not None:
            self._context.upstream_pool.release(self._upstream)
            self._upstream = None

    def _end_exchange(self, reason: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.record_end(reason, self._context.recorders)

    def _require_exchange(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError("no request is running")
        return self._exchange
