"""Requests that are shown as flows of mitmproxy, in a user interface or to other addons, before they are sent.

An addon can pause a request, edit its head, respond to it or kill it. An edited head gets a new access decision. The
client gets nothing of the response before its head has been passed to the hooks.
"""

from dataclasses import dataclass
from enum import Enum
from functools import partial

from mitmproxy.connection import Server

from addons.access.authorizer import AuthorizationResult
from addons.http1.messages import InvalidMessage, MessageEvent, RequestHead
from addons.net.mitmproxy_private import HttpRequestHeadersHook, HttpResponseHook
from addons.net.sockets import Sockets
from addons.relay.exchange import Exchange
from addons.relay.flow_labels import FlowLabel, create_refused_flow
from addons.relay.flows import FlowMirror
from addons.relay.request_stage import Responding
from addons.relay.requests import Requests
from addons.relay.response import Response
from addons.relay.rewriting import ResponseRewriter
from addons.relay.shared_context import SharedContext
from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import Forward, Inject
from connector_store.domain.decision.denial import Deny


class FlowResponse(Response):
    """Response whose body is copied to the flow."""

    mirror: FlowMirror

    def _handle_message(self, message: MessageEvent, out: list[bytes]) -> None:
        if isinstance(message, bytes):
            self.mirror.append_body("response", message)
        super()._handle_message(message, out)


def has_secret_body(info: RequestInfo | None) -> bool:
    """Return True if a body of the request contains Secrets or a token that the API server issues."""
    return info is not None and ((info.group, info.resource) == ("", "secrets") or info.subresource == "token")


def show_refusal(context: SharedContext, sockets: Sockets, head: RequestHead | None, label: FlowLabel) -> None:
    """Show a request that the proxy refuses, with the response, as a flow. Addons cannot change it.

    Flows of unauthenticated clients are rate-limited.
    """
    if label.identity is None and not context.stranger_flows.take():
        return
    flow = create_refused_flow(sockets.client, head, label)
    sockets.run_hook(HttpRequestHeadersHook(flow), lambda: sockets.run_hook(HttpResponseHook(flow), lambda: None))


class HeadHook(Enum):
    """Progress of the hooks for a response head."""

    NOT_STARTED = "the head has not arrived"
    RUNNING = "the hooks have the head"
    DONE = "the client may get the response"


@dataclass(slots=True, kw_only=True)
class FlowExchange(Exchange):
    """Exchange with a flow. `mirror` is None until the access decision allows to show the Connector."""

    mirror: FlowMirror | None = None
    head_hook: HeadHook = HeadHook.NOT_STARTED
    withheld_data: bytes = b""
    """Bytes of the response that wait until the hooks have seen its head."""

    def append_body(self, message: MessageEvent, out: list[bytes]) -> None:
        if isinstance(message, bytes) and self.mirror is not None:
            self.mirror.append_body("request", message)
        Exchange.append_body(self, message, out)

    def _create_response(
        self,
        decision: Inject | Forward,
        upgrade: bytes | None,
        *,
        max_head: int,
        rewriter: ResponseRewriter | None,
    ) -> Response:
        response = FlowResponse(self.head, decision.target, upgrade, max_head, self.path_prefix, rewriter)
        if self.mirror is None:
            raise RuntimeError("the request was not shown")
        response.mirror = self.mirror
        return response


class FlowRequests(Requests[FlowExchange]):
    """Stage for requests that are shown as flows."""

    # The request

    def _apply_decision(self, exchange: FlowExchange, authorization: AuthorizationResult) -> None:
        exchange.authorization = authorization
        if exchange.mirror is not None or isinstance(authorization.decision, Deny):
            super()._apply_decision(exchange, authorization)
        elif isinstance(authorization.decision, Inject | Forward):
            if exchange.connector_request is not None and exchange.connector_request.authority is None:
                self._rewrite_for_target(exchange, exchange.connector_request, authorization.decision)
            self._show_request(exchange, authorization.decision)

    def _show_request(self, exchange: FlowExchange, decision: Inject | Forward) -> None:
        context, label = self._context, self._label(exchange)
        keep_body = context.keep_body if context.keep_secrets or not has_secret_body(label.info) else 0
        mirror = exchange.mirror = FlowMirror(
            self._sockets.client, exchange.head, decision.target, label, keep_body=keep_body
        )
        self._sockets.pause_reading()
        self._sockets.wait_for_hook(mirror.request_headers_hook(), lambda: self._on_headers_shown(exchange, mirror))

    def _label(self, exchange: FlowExchange, refusal: Deny | None = None) -> FlowLabel:
        decision = exchange.authorization.decision if exchange.authorization is not None else None
        return FlowLabel(
            connector=exchange.connector_request.key if exchange.connector_request is not None else None,
            identity=exchange.caller,
            source_ip=exchange.source_ip,
            info=exchange.request_info() if exchange.head.target else None,
            role=decision.role if isinstance(decision, Inject | Forward | Deny) else "",
            refusal=refusal,
        )

    def _refuse(self, exchange: FlowExchange, deny: Deny) -> None:
        label = self._label(exchange, deny)
        if exchange.mirror is not None:
            exchange.mirror.show_refusal(label)
        else:
            show_refusal(self._context, self._sockets, exchange.head, label)
        super()._refuse(exchange, deny)

    def _on_headers_shown(self, exchange: FlowExchange, mirror: FlowMirror) -> None:
        if not self._close_if_killed(mirror):
            self._sockets.wait_for_hook(mirror.request_hook(), lambda: self._on_request_shown(exchange, mirror))

    def _on_request_shown(self, exchange: FlowExchange, mirror: FlowMirror) -> None:
        """Continue after the hooks, which may have edited the request, responded to it or killed it.

        The request gets a new access decision, because the store may have changed while the hooks ran.
        """
        response, edited_head = mirror.render_addon_response(), mirror.parse_edited_head()
        if self._close_if_killed(mirror):
            return
        if response is not None:
            self._send_addon_response(exchange, mirror, *response)
        elif isinstance(edited_head, InvalidMessage):
            self._refuse(exchange, denial.bad_request(f"the edited request: {edited_head.reason}"))
        elif exchange.connector_request is not None:
            exchange.head = edited_head or exchange.head
            connector_request = exchange.connector_request._replace(authority=mirror.authority)
            authorization = self._authorizer.authorize_request(
                exchange.head,
                connector_request,
                partial(self._on_decision, exchange),
                earlier=exchange.authorization,
            )
            if authorization is not None:
                self._on_decision(exchange, authorization)

    def _send_addon_response(self, exchange: FlowExchange, mirror: FlowMirror, status: int, data: bytes) -> None:
        """Send the response of an addon. One with an error status is recorded as a refusal."""
        exchange.status = status
        if status >= 400:
            deny = denial.refused_by_addon(status, mirror.addon_message())
            exchange.set_refusal(deny)
            mirror.show_refusal(self._label(exchange, deny))
        self._send_final_response(exchange, data)

    def _close_if_killed(self, mirror: FlowMirror) -> bool:
        if mirror.is_killed:
            self.close("killed by a watcher")
        return mirror.is_killed

    def _send_head(self, exchange: FlowExchange, decision: Inject | Forward, upstream: UpstreamConnection) -> None:
        if exchange.mirror is not None and isinstance(upstream.connection, Server):
            exchange.mirror.set_server(upstream.connection)
        super()._send_head(exchange, decision, upstream)

    # The response

    def _forward_response(self, state: Responding[FlowExchange], data: bytes) -> None:
        exchange, response, mirror = state.exchange, state.response, state.exchange.mirror
        is_shown = exchange.head_hook is HeadHook.DONE
        if response.head is None or response.failure is not None or mirror is None or is_shown:
            super()._forward_response(state, data)
            return
        exchange.withheld_data += data
        if exchange.head_hook is HeadHook.NOT_STARTED:
            exchange.head_hook = HeadHook.RUNNING
            self._sockets.pause_reading(state.upstream.connection)
            hook = mirror.response_headers_hook(response.head)
            self._sockets.wait_for_hook(hook, lambda: self._on_response_shown(state, mirror))

    def _on_response_shown(self, state: Responding[FlowExchange], mirror: FlowMirror) -> None:
        exchange, upstream = state.exchange, state.upstream
        exchange.head_hook = HeadHook.DONE
        if self._close_if_killed(mirror):
            return
        self._sockets.resume_reading(upstream.connection)
        data, exchange.withheld_data = exchange.withheld_data, b""
        self._forward_response(state, data)
        if upstream.at_eof and self._upstream is upstream:
            self._handle_target_eof()

    def _handle_target_eof(self) -> None:
        """Handle the EOF after the withheld data was sent."""
        if not isinstance(self._state, Responding) or self._state.exchange.head_hook is not HeadHook.RUNNING:
            super()._handle_target_eof()

    def _upgrade(self, state: Responding[FlowExchange]) -> None:
        self._finish_mirror(state.exchange, "")
        super()._upgrade(state)

    def _finish_exchange(self, exchange: FlowExchange, reason: str) -> None:
        # The response of an addon is that of the flow, and not an error.
        error = reason if exchange.cause == "addon" else exchange.refusal_message or reason
        self._finish_mirror(exchange, error)
        super()._finish_exchange(exchange, reason)

    def _finish_mirror(self, exchange: FlowExchange, error: str) -> None:
        if exchange.mirror is not None:
            exchange.mirror.finish(error, self._sockets.run_hook)
