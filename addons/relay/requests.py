"""Requests of a client connection. Each one gets its own access decision from current data.

- A replayable request (GET or HEAD without a body and without an upgrade) can be sent once more, on a new connection to
  the target. No other request is sent twice.
- Only a replayable request starts on a pooled connection of another client.
"""

import time
from functools import partial
from typing import Final

from addons.access.authorizer import AuthorizationResult
from addons.access.connector_request import ConnectorRequest
from addons.http1.messages import InvalidMessage, RequestHead
from addons.net.dial import Dial
from addons.net.stage import TimerKind
from addons.net.tls import TlsStream
from addons.relay import replies
from addons.relay.exchange import Exchange
from addons.relay.pipe import Pipe
from addons.relay.request_stage import (
    CloseMode,
    CurrentRequest,
    Deciding,
    Dialling,
    NoRequest,
    RequestStage,
    Responding,
)
from addons.relay.response import Progress
from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import ALLOWING, Forward, Inject
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.warning import expiry_warning_text, warning_header
from connector_store.domain.objects.models import Target
from connector_store.domain.permissions.restrictions import Treatment

EXPIRY_WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings of one caller about the expiry of one Connector's credential."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Requests[E: Exchange](RequestStage[E]):
    """Stage that decides on requests, sends them to their targets and sends the responses to the client."""

    # The decision

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
        # Positional, because keywords to a class cost more than the rest of its creation.
        exchange = self._exchange_class(
            head, self._sockets.source_ip, connector_request, path_prefix, self._route.identity
        )
        self._state = Deciding(exchange)
        return exchange

    def _set_connector(self, key: ObjectKey | None) -> None:
        """Register the connection as a live connection of the Connector `key`."""
        if self.key is not None:
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
        decision = authorization.decision
        if isinstance(decision, ALLOWING):
            if exchange.connector_request is not None and exchange.connector_request.authority is None:
                self._rewrite_for_target(exchange, exchange.connector_request, decision)
            if decision.treatment is Treatment.DRY_RUN:
                self._prepare_body(exchange, decision)
            else:
                self._connect_target(exchange, decision)
        elif isinstance(decision, Deny):
            self._refuse(exchange, decision)

    def _decide_again(self, exchange: E, connector_request: ConnectorRequest) -> None:
        authorization = self._authorizer.authorize_request(
            exchange.head,
            connector_request,
            partial(self._on_decision, exchange),
            earlier=exchange.authorization,
        )
        if authorization is not None:
            self._apply_decision(exchange, authorization)

    def _refuse(self, exchange: E, deny: Deny) -> None:
        """Send a refusal without waiting for the rest of the request, and close the connection."""
        exchange.set_refusal(deny)
        refusal = replies.render_refusal(
            deny,
            is_discovery=denial.is_discovery(exchange.head.headers),
            with_body=exchange.head.method != b"HEAD",
        )
        self._send_final_response(exchange, refusal)

    def _refuse_invalid(self, message: InvalidMessage) -> None:
        state = self._state
        if isinstance(state, Responding):
            # The target has a part of the request, which must not look complete.
            self.close(f"the request is not HTTP/1.1: {message.reason}")
            return
        key = self._route.key
        connector_request = ConnectorRequest(key, None, ParseError("", message.reason)) if key is not None else None
        exchange = (
            state.exchange
            if isinstance(state, CurrentRequest)
            else self._create_exchange(RequestHead(b"", b"", 1, Headers(), 0), connector_request)
        )
        self._refuse(exchange, denial.invalid_message(message.status, message.reason, self._context.max_header))

    def _rewrite_for_target(self, exchange: E, connector_request: ConnectorRequest, decision: Inject | Forward) -> None:
        """Rewrite a request that was addressed to the proxy for the target."""
        address = decision.target.address
        exchange.head = self._route.rewrite_head(exchange.head, decision.target)
        exchange.connector_request = ConnectorRequest(connector_request.key, address.authority, connector_request.token)

    def _prepare_body(self, exchange: E, decision: Inject | Forward) -> None:
        """Read the body first if it must be rewritten. Only the body of a deletion can be, which is small."""
        if not exchange.has_delete_options:
            self._connect_target(exchange, decision)
        elif not exchange.is_request_complete:
            exchange.awaits_body = True
            if exchange.head.headers.values(b"expect"):
                self._client.send(_CONTINUE)
            self._sockets.start_timer(self._context.timeouts.client, TimerKind.CLIENT)
            self._sockets.resume_reading()
        elif (deny := exchange.rewrite_delete_options()) is not None:
            self._refuse(exchange, deny)
        else:
            self._connect_target(exchange, decision)

    def _check_awaited_body(self, exchange: E) -> None:
        """Decide again when the body of a request has been read, or is too large."""
        if exchange.is_body_too_large:
            exchange.is_request_complete = True
        if exchange.is_request_complete and exchange.connector_request is not None:
            exchange.awaits_body = False
            self._sockets.stop_timer()
            self._decide_again(exchange, exchange.connector_request)

    # To the target

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
        elif not self._context.access_context.policy.addresses.allows(upstream.ip):
            # The policy has changed since the dial began.
            self._refuse(exchange, denial.target_denied(decision.target, upstream.ip))
        elif not self._close_if_client_gone():
            self._send_head(exchange, decision, upstream)
            self._resume_reading()

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
        if text is None:
            return []
        recent_warnings, key, now = self._context.recent_warnings, (exchange.user, target.key), time.monotonic()
        if recent_warnings.get(key, now=now):
            return []
        recent_warnings.put(key, True, expires_at=now + EXPIRY_WARNING_INTERVAL)
        return [warning_header(text)]

    def _retry(self, exchange: E, connector_request: ConnectorRequest) -> None:
        """Send the request again on a new connection, after a new access decision."""
        exchange.is_retry = True
        self._context.upstream_pool.retry_count += 1
        self._state = Deciding(exchange)
        self._release_target()
        self._decide_again(exchange, connector_request)

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

    def _forward_response(self, state: Responding[E], data: bytes) -> None:
        """Send `data` of the response to the client and handle the end of the response."""
        exchange, response = state.exchange, state.response
        if data:
            exchange.record_response(response, self._context.recorders)
            exchange.bytes_out += len(data)
            self._client.send(data)
        failure = response.failure
        if failure is None:
            if response.progress is Progress.COMPLETE:
                self._complete(state)
            elif response.progress is Progress.UPGRADED:
                self._upgrade(state)
        elif isinstance(failure, Deny):
            if failure.cause == denial.TARGET_REFUSED:
                self._context.access_context.target_tokens.discard_refused(response.target)
            self._refuse(exchange, failure)
        else:
            self.close(failure.reason)

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
