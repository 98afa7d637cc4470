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
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

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
from addons.relay.response import Progress, Response, TruncatedResponse
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

EXPIRY_WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings of one caller about the expiry of one Connector's credential."""


class NoRequest(Enum):
    """States of the stage in which no request is running."""

    IDLE = "the client has sent nothing of the next head"
    HEAD = "a head is expected within the timeout"
    CLOSED = "no further request is served"


@dataclass(slots=True, eq=False)
class Deciding[E: Exchange]:
    """State of a request that waits for its access decision, or for the hooks of its flow."""

    exchange: E


@dataclass(slots=True, eq=False)
class Dialling[E: Exchange]:
    """State of a request that waits for a connection to the target."""

    exchange: E
    dial: Dial


@dataclass(slots=True, eq=False)
class Responding[E: Exchange]:
    """State of a request whose head has been sent to the target."""

    exchange: E
    response: Response
    upstream: UpstreamConnection


class CloseMode(Enum):
    """Ways to close the client connection."""

    AFTER_RESPONSE = "orderly, when the client has read the complete response, without a limit of time"
    AFTER_REFUSAL = "orderly, with a limit of time for the client to read the response of the proxy"
    CLIENT_GONE = "orderly, at once"
    TRUNCATED = "without a close_notify, so that no message looks complete"


class Requests[E: Exchange]:
    """Stage of a client connection that serves requests, in a tunnel or for direct access."""

    def __init__(
        self,
        context: SharedContext,
        sockets: Sockets,
        authorizer: Authorizer,
        route: Route,
        client: ClientStream,
        reader: RequestReader,
        exchange_class: type[E],
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
        self._exchange_class = exchange_class
        self._state: NoRequest | Deciding[E] | Dialling[E] | Responding[E] = NoRequest.IDLE
        self._upstream: UpstreamConnection | None = None
        """Connection of the current or last request, until it is released."""
        self._has_warned = False
        """The client got the warning about the expiry of the Connector's credential, if one was due."""

    def take_over(self, messages: list[MessageEvent]) -> None:
        """Handle the messages that another stage has read. The first one is a head."""
        self._handle_messages(messages)
        if self._client.at_eof and self._state is not NoRequest.CLOSED:
            # The EOF was read by the other stage, so `eof_received` is not called.
            self._handle_client_gone("closed the connection")

    def start(self, initial_data: bytes) -> None:
        """Start serving. `initial_data` is plaintext that arrived with the end of the TLS handshake."""
        self._await_head()
        if initial_data or self._client.at_eof:
            self.take_over(self._reader.receive(initial_data))

    # Interface `LiveConnection`

    @property
    def live_access(self) -> LiveAccess | None:
        """Access with which the current request was authorized; None between requests."""
        return None if isinstance(self._state, NoRequest) else self._state.exchange.live_access

    def close(self, reason: str) -> None:
        """Close both sides immediately, so that no message looks complete.

        The client of a watch gets the reason, unless an event is incomplete.
        """
        state = self._state
        if isinstance(state, Responding) and state.exchange.long_running_kind == "watch":
            error_event = state.response.render_error_event(reason)
            state.exchange.bytes_out += len(error_event)
            self._client.send(error_event)
        self._end(CloseMode.TRUNCATED, reason)

    def close_if_client_gone(self) -> None:
        """Close the connection if the client is gone.

        This is not noticed otherwise while the client is not read because its request waits.
        """
        if self._state is not NoRequest.CLOSED and self._sockets.is_client_closed_unnoticed:
            self._handle_client_gone("closed the connection")

    # Interface `Stage`

    def data_received(self, connection: Connection, data: memoryview) -> None:
        state, upstream = self._state, self._upstream
        if connection is self._client.connection:
            self._receive_from_client(data)
        elif isinstance(state, Dialling):
            state.dial.receive(connection, data)
        elif upstream is not None and connection is upstream.connection and not upstream.at_eof:
            self._receive_from_target(upstream, data)

    def eof_received(self, connection: Connection) -> None:
        state, upstream = self._state, self._upstream
        if connection is self._client.connection:
            if not self._client.at_eof:
                self._client.at_eof = self._client.is_truncated = True
                self._handle_client_gone("closed the connection")
        elif isinstance(state, Dialling):
            state.dial.on_eof(connection)
        elif upstream is not None and connection is upstream.connection and not upstream.at_eof:
            upstream.on_eof()
            self._handle_target_eof()

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired) and event.kind is TimerKind.CLIENT:
            self._handle_client_gone("sent no whole request in time")
        elif isinstance(event, Drain):
            self._drain()
        elif isinstance(event, ShutDown):
            self._shut_down(event.reason)
        elif isinstance(self._state, Dialling):
            self._state.dial.handle_event(event)

    def connection_lost(self) -> None:
        self._context.live_connections.remove(self)
        self._stop("the connection ended")

    # From the client

    def _receive_from_client(self, data: memoryview) -> None:
        try:
            plaintext = self._client.receive(data)
        except ConnectionError as error:
            logger.debug("client %s: %s", self._sockets.source_ip, error)
            self._end(CloseMode.TRUNCATED, "the connection ended")
            return
        if plaintext:
            self._handle_messages(self._reader.receive(plaintext))
        if self._client.at_eof and self._state is not NoRequest.CLOSED:
            self._handle_client_gone("closed the connection")

    def _handle_buffered_input(self) -> None:
        """Handle unparsed bytes: wait for the rest of a head, or pause reading until the current request is done."""
        if not isinstance(self._state, NoRequest):
            self._sockets.pause_reading()
        elif self._state is NoRequest.IDLE:
            self._await_head()

    def _await_head(self) -> None:
        self._state = NoRequest.HEAD
        self._sockets.start_timer(self._context.timeouts.client, TimerKind.CLIENT)

    def _handle_messages(self, messages: list[MessageEvent]) -> None:
        """Handle message events from the client."""
        body: list[bytes] = []
        for message in messages:
            if isinstance(message, RequestHead):
                self._start_request(message)
            elif isinstance(message, InvalidMessage):
                self._refuse_invalid(message)
            elif not isinstance(self._state, NoRequest):
                self._state.exchange.append_body(message, body)
            if self._state is NoRequest.CLOSED:
                return
        if body:
            self._send_to_target(b"".join(body))
        if self._reader.buffer and self._state is not NoRequest.CLOSED:
            self._handle_buffered_input()

    def _send_to_target(self, data: bytes) -> None:
        state = self._state
        if isinstance(state, NoRequest):
            return
        state.exchange.bytes_in += len(data)
        if isinstance(state, Responding):
            state.upstream.send(data)
        else:
            state.exchange.unsent_body.append(data)

    # One request

    def _start_request(self, head: RequestHead) -> None:
        if self._state is NoRequest.HEAD:
            self._sockets.stop_timer()
        connector_request, path_prefix = self._route.connector_request, None
        if connector_request is None:
            resolved = self._route.resolve(head)
            if isinstance(resolved, Deny):
                self._refuse(self._create_exchange(head, None), resolved)
                return
            connector_request, head, path_prefix = resolved
        if connector_request.key != self.key:
            self._set_connector(connector_request.key)
        exchange = self._create_exchange(head, connector_request, path_prefix)
        authorization = self._authorizer.authorize_request(
            head, connector_request, partial(self._on_decision, exchange)
        )
        if authorization is not None:
            self._apply_decision(exchange, authorization)

    def _create_exchange(
        self, head: RequestHead, connector_request: ConnectorRequest | None, path_prefix: bytes | None = None
    ) -> E:
        """Start the exchange of a request."""
        exchange = self._exchange_class(
            head=head,
            connector_request=connector_request,
            path_prefix=path_prefix,
            identity=self._route.identity,
            source_ip=self._sockets.source_ip,
        )
        self._state = Deciding(exchange)
        return exchange

    def _set_connector(self, key: ObjectKey | None) -> None:
        """Register the connection as a live connection of the Connector `key`."""
        self._context.live_connections.remove(self)
        self.key = key
        self._has_warned = False
        self._context.live_connections.add(self)

    def _on_decision(self, exchange: E, authorization: AuthorizationResult) -> None:
        exchange.authorization = authorization
        if isinstance(authorization.decision, Deny) or not self._close_if_client_gone():
            self._apply_decision(exchange, authorization)
            self._resume_reading()

    def _apply_decision(self, exchange: E, authorization: AuthorizationResult) -> None:
        exchange.authorization = authorization
        if isinstance(authorization.decision, Deny):
            self._refuse(exchange, authorization.decision)
        elif isinstance(authorization.decision, Inject | Forward):
            if exchange.connector_request is not None and exchange.connector_request.authority is None:
                self._rewrite_for_target(exchange, exchange.connector_request, authorization.decision)
            self._connect_target(exchange, authorization.decision)

    def _rewrite_for_target(self, exchange: E, connector_request: ConnectorRequest, decision: Inject | Forward) -> None:
        """Rewrite a request that was addressed to the proxy for the target."""
        address = decision.target.address
        exchange.head = self._route.rewrite_head(exchange.head, decision.target)
        exchange.connector_request = ConnectorRequest(connector_request.key, address.authority, connector_request.token)

    def _connect_target(self, exchange: E, decision: Inject | Forward) -> None:
        context, upstream = self._context, self._upstream
        if (
            upstream is not None
            and (upstream.exclusive_token is None or upstream.exclusive_token == exchange.token)
            and upstream.can_serve(decision.target, context.trust)
        ):
            self._send_head(exchange, decision, upstream)
            return
        self._release_target()
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
        dial = Dial(
            decision.target,
            self._sockets,
            context.resolver,
            context.access_context.policy.addresses,
            context.trust,
            context.timeouts.connect,
            partial(self._on_dial_outcome, exchange, decision),
        )
        self._state = Dialling(exchange, dial)
        dial.start()

    def _on_dial_outcome(self, exchange: E, decision: Inject | Forward, outcome: TlsStream | Deny) -> None:
        """Send the request on the new connection. `decision` is still valid because nothing waits in between."""
        self._state = Deciding(exchange)
        if isinstance(outcome, Deny):
            self._refuse(exchange, outcome)
            return
        trust = self._context.trust
        upstream = self._upstream = UpstreamConnection(outcome, decision.target, trust, self._sockets)
        if not upstream.can_serve(decision.target, trust):
            self._refuse(exchange, denial.internal_error())
        elif not self._close_if_client_gone():
            self._send_head(exchange, decision, upstream)
            self._resume_reading()

    def _close_if_client_gone(self) -> bool:
        """Close if the client has closed the connection. Return True if the stage is closed."""
        if self._sockets.is_client_closed:
            self._end(CloseMode.CLIENT_GONE, "the client closed the connection")
        return self._state is NoRequest.CLOSED

    def _send_head(self, exchange: E, decision: Inject | Forward, upstream: UpstreamConnection) -> None:
        exchange.is_connection_reused = upstream.request_count > 0
        context = self._context
        response, request_bytes = exchange.forward(
            decision,
            max_head=context.max_header,
            must_close=self._sockets.is_draining,
            forwarded_for=context.forwarded_for,
        )
        if not self._has_warned:
            response.warnings += self._expiry_warnings(exchange, decision.target)
        if exchange.head.body or response.requested_upgrade is not None:
            upstream.exclusive_token = exchange.token
        upstream.start_request(request_bytes)
        self._state = Responding(exchange, response, upstream)

    def _expiry_warnings(self, exchange: E, target: Target) -> list[Header]:
        """Return the warning for the first response of a connection if the credential expires soon.

        A caller gets it once in `EXPIRY_WARNING_INTERVAL`, because programs like Helm open many connections.
        """
        text = expiry_warning_text(target, now=time.time(), expiry_warning=self._context.expiry_warning)
        recent_warnings, key, now = self._context.recent_warnings, (exchange.user, target.key), time.monotonic()
        if text is None or recent_warnings.get(key, now=now):
            return []
        recent_warnings.put(key, True, expires_at=now + EXPIRY_WARNING_INTERVAL)
        return [warning_header(text)]

    def _resume_reading(self) -> None:
        """Resume reading from the client, which was paused while the request waited."""
        if isinstance(self._state, Responding) and not self._reader.buffer:
            self._sockets.resume_reading()

    # From the target

    def _receive_from_target(self, upstream: UpstreamConnection, data: memoryview) -> None:
        plaintext, state = upstream.receive(data), self._state
        if plaintext and isinstance(state, Responding):
            self._forward_response(state, state.response.receive(plaintext))
        elif plaintext:
            self._end(CloseMode.CLIENT_GONE, "the target sent what was not asked for")
        if upstream.at_eof and self._upstream is upstream:
            self._handle_target_eof()

    def _handle_target_eof(self) -> None:
        state = self._state
        if isinstance(state, Responding):
            exchange, response, upstream = state.exchange, state.response, state.upstream
            if upstream.tls_error or not (exchange.is_connection_reused and response.progress is Progress.EMPTY):
                self._forward_response(
                    state, response.receive_eof(clean_eof=upstream.clean_eof, tls_error=upstream.tls_error)
                )
                return
            if exchange.connector_request is not None and exchange.can_retry:
                self._retry(exchange, exchange.connector_request)
                return
        # Without a proxy, the client would see the same EOF. It decides whether to send the request again.
        self._end(CloseMode.AFTER_RESPONSE, "the target closed the connection")

    def _retry(self, exchange: E, connector_request: ConnectorRequest) -> None:
        """Send the request again on a new connection, after a new access decision."""
        exchange.is_retry = True
        self._context.upstream_pool.retry_count += 1
        self._state = Deciding(exchange)
        self._release_target()
        authorization = self._authorizer.authorize_request(
            exchange.head, connector_request, partial(self._on_decision, exchange)
        )
        if authorization is not None:
            self._apply_decision(exchange, authorization)

    def _forward_response(self, state: Responding[E], data: bytes) -> None:
        """Send `data` of the response to the client and handle the end of the response."""
        exchange, response = state.exchange, state.response
        if data:
            exchange.record_response(response, self._context.recorders)
            exchange.bytes_out += len(data)
            self._client.send(data)
        if isinstance(response.failure, Deny):
            if response.failure.cause == denial.TARGET_REFUSED:
                self._context.access_context.target_tokens.discard_refused(response.target)
            self._refuse(exchange, response.failure)
        elif isinstance(response.failure, TruncatedResponse):
            self.close(response.failure.reason)
        elif response.progress is Progress.UPGRADED:
            self._upgrade(state)
        elif response.progress is Progress.COMPLETE:
            self._complete(state)

    def _upgrade(self, state: Responding[E]) -> None:
        """Replace this stage by a pipe, because both sides switch to another protocol."""
        self._state, self._upstream = NoRequest.CLOSED, None
        self._context.live_connections.remove(self)
        pipe = Pipe(
            self._context,
            self._sockets,
            self._client,
            state.upstream,
            state.exchange,
            state.response.frame_tracker,
        )
        self._sockets.set_stage(pipe)
        pipe.start(self._reader.take_pending())

    def _complete(self, state: Responding[E]) -> None:
        """Serve the next request after a complete response, or close."""
        exchange, response, upstream = state.exchange, state.response, state.upstream
        allows_reuse = response.allows_reuse
        is_orderly = exchange.is_request_complete and not upstream.at_eof
        if allows_reuse and is_orderly:
            upstream.idle_since = time.monotonic()
        self._has_warned = not response.warnings_omitted
        if response.warnings_omitted:
            self._context.recent_warnings.drop((exchange.user, response.target.key))
        must_close = response.must_close or not (allows_reuse or not response.has_unsolicited_data)
        if must_close or not is_orderly or self._sockets.is_draining:
            self._end(CloseMode.AFTER_RESPONSE)
            return
        self._finish_exchange(exchange, "")
        self._state = NoRequest.IDLE
        messages = self._reader.next_message()
        if messages is not None:
            self._sockets.resume_reading()
            self._handle_messages(messages)

    # The end

    def _refuse(self, exchange: E, deny: Deny) -> None:
        """Send a refusal without waiting for the rest of the request, and close the connection."""
        exchange.set_refusal(deny)
        self._send_final_response(exchange, replies.render_refusal(deny, with_body=exchange.head.method != b"HEAD"))

    def _send_final_response(self, exchange: E, response: bytes) -> None:
        exchange.bytes_out += len(response)
        self._client.send(response)
        self._end(CloseMode.AFTER_REFUSAL)

    def _refuse_invalid(self, message: InvalidMessage) -> None:
        state = self._state
        if isinstance(state, Responding):
            # The target has a part of the request, which must not look complete.
            self.close(f"the request is not HTTP/1.1: {message.reason}")
            return
        key = self._route.key
        connector_request = ConnectorRequest(key, None, ParseError("", message.reason)) if key is not None else None
        exchange = (
            self._create_exchange(RequestHead(b"", b"", 1, Headers(), 0), connector_request)
            if isinstance(state, NoRequest)
            else state.exchange
        )
        self._refuse(exchange, denial.invalid_message(message.status, message.reason, self._context.max_header))

    def _drain(self) -> None:
        if isinstance(self._state, NoRequest):
            self._end(CloseMode.AFTER_RESPONSE)
        elif isinstance(self._state, Responding):
            self._state.response.must_close = True

    def _shut_down(self, reason: str) -> None:
        """End the current request in an orderly way.

        If a watch event is incomplete, do nothing. `ShutDown` is delivered again.
        """
        state = self._state
        if isinstance(state, Responding):
            if state.response.is_close_delimited:
                # An orderly EOF would look like the end of the complete response.
                self.close(reason)
                return
            final_chunk = state.response.render_end() if state.exchange.long_running_kind == "watch" else b""
            if final_chunk is None:
                return
            if final_chunk and not state.upstream.at_eof:
                state.exchange.bytes_out += len(final_chunk)
                self._client.send(final_chunk)
        self._end(CloseMode.AFTER_RESPONSE, reason)

    def _handle_client_gone(self, cause: str) -> None:
        if isinstance(self._state, NoRequest) and self._reader.buffer:
            logger.debug("client %s: %s in the middle of a head", self._sockets.source_ip, cause)
        self._end(CloseMode.CLIENT_GONE, f"the client {cause}")

    def _end(self, mode: CloseMode, reason: str = "") -> None:
        """End the current request, if any, and close the connection. `reason` is for the audit record."""
        self._stop(reason)
        if mode is CloseMode.TRUNCATED:
            self._upstream = None
            self._sockets.close_all()
            return
        self._release_target()
        self._client.send_eof()
        if mode is CloseMode.CLIENT_GONE:
            self._sockets.close(self._client.connection)
        else:
            self._sockets.linger(until_sent=mode is CloseMode.AFTER_RESPONSE)

    def _stop(self, reason: str) -> None:
        """End the current request, if any, and serve no other."""
        state, self._state = self._state, NoRequest.CLOSED
        if isinstance(state, Dialling):
            state.dial.cancel()
        if not isinstance(state, NoRequest):
            self._finish_exchange(state.exchange, reason)

    def _release_target(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._context.upstream_pool.release(upstream)

    def _finish_exchange(self, exchange: E, reason: str) -> None:
        exchange.record_end(reason, self._context.recorders)
