"""Requests that are shown as flows of mitmproxy, in a user interface or to other addons, before they are sent.

An addon can pause a request, edit its head, respond to it or kill it. An edited head gets a new access decision. The
client gets nothing of the response before its head has been passed to the hooks.
"""

from dataclasses import dataclass

from mitmproxy.connection import Server

from addons.access.authorizer import AuthorizationResult
from addons.access.connector_request import ConnectorRequest
from addons.http1.messages import InvalidMessage, MessageEvent, RequestHead
from addons.relay.exchange import Exchange
from addons.relay.flows import FlowMirror
from addons.relay.requests import Phase, Requests
from addons.relay.response import Response
from addons.relay.upstream import UpstreamConnection
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


@dataclass(slots=True, kw_only=True)
class FlowExchange(Exchange):
    """Exchange with a flow. `mirror` is None until the access decision allows to show the Connector."""

    mirror: FlowMirror | None = None
    is_head_pending: bool = False
    """The hooks are running for the response head."""
    is_head_shown: bool = False
    """The response head has been passed to the hooks, or is with them now."""
    withheld_data: bytes = b""
    """Bytes of the response that wait until the hooks have seen its head."""

    def append_body(self, message: MessageEvent, out: list[bytes]) -> None:
        if isinstance(message, bytes) and self.mirror is not None:
            self.mirror.append_body("request", message)
        Exchange.append_body(self, message, out)

    def _create_response(self, decision: Inject | Forward, upgrade: bytes | None, *, max_head: int) -> Response:
        response = FlowResponse(self.head, decision.target, upgrade, max_head=max_head)
        if self.mirror is None:
            raise RuntimeError("the request was not shown")
        response.mirror = self.mirror
        return response


class FlowRequests(Requests):
    """Stage for requests that are shown as flows."""

    _exchange: FlowExchange | None

    def _create_exchange(self, head: RequestHead, connector_request: ConnectorRequest | None) -> FlowExchange:
        return FlowExchange(
            head=head,
            connector_request=connector_request,
            identity=self._route.identity,
            source_ip=self._sockets.source_ip,
        )

    # The request

    def _apply_decision(self, exchange: Exchange, authorization: AuthorizationResult) -> None:
        flow_exchange = self._require_flow_exchange()
        flow_exchange.authorization = authorization
        if flow_exchange.mirror is not None or isinstance(authorization.decision, Deny):
            super()._apply_decision(flow_exchange, authorization)
        elif isinstance(authorization.decision, Inject | Forward):
            if flow_exchange.connector_request is not None and flow_exchange.connector_request.authority is None:
                self._rewrite_for_target(flow_exchange, flow_exchange.connector_request, authorization.decision)
            self._show_request(flow_exchange, authorization.decision)

    def _show_request(self, exchange: FlowExchange, decision: Inject | Forward) -> None:
        keep_body = self._context.keep_body
        mirror = exchange.mirror = FlowMirror(self._sockets.client, exchange.head, decision.target, keep_body=keep_body)
        self._sockets.pause_reading()
        self._sockets.wait_for_hook(mirror.request_headers_hook(), lambda: self._on_headers_shown(mirror))

    def _on_headers_shown(self, mirror: FlowMirror) -> None:
        if not self._close_if_killed(mirror):
            self._sockets.wait_for_hook(mirror.request_hook(), lambda: self._on_request_shown(mirror))

    def _on_request_shown(self, mirror: FlowMirror) -> None:
        """Continue after the hooks, which may have edited the request, responded to it or killed it.

        The request gets a new access decision, because the store may have changed while the hooks ran.
        """
        exchange = self._require_flow_exchange()
        response, edited_head = mirror.render_addon_response(), mirror.parse_edited_head()
        if self._close_if_killed(mirror):
            return
        if response is not None:
            exchange.status = response[0]
            self._send_final_response(exchange, response[1])
        elif isinstance(edited_head, InvalidMessage):
            self._refuse(denial.bad_request(f"the edited request: {edited_head.reason}"))
        elif exchange.connector_request is not None:
            exchange.head = edited_head or exchange.head
            connector_request = exchange.connector_request._replace(authority=mirror.authority)
            authorization = self._authorizer.authorize_request(exchange.head, connector_request, self._on_decision)
            if authorization is not None:
                self._on_decision(authorization)

    def _close_if_killed(self, mirror: FlowMirror) -> bool:
        if mirror.is_killed:
            self.close("killed by a watcher")
        return mirror.is_killed

    def _send_head(self, exchange: Exchange, decision: Inject | Forward, upstream: UpstreamConnection) -> None:
        mirror = self._require_flow_exchange().mirror
        if mirror is not None and isinstance(upstream.connection, Server):
            mirror.set_server(upstream.connection)
        super()._send_head(exchange, decision, upstream)

    # The response

    def _forward_response(self, exchange: Exchange, data: bytes) -> None:
        flow_exchange, response = self._require_flow_exchange(), exchange.response
        if response is None or response.head is None or response.failure is not None or flow_exchange.mirror is None:
            super()._forward_response(exchange, data)
        elif flow_exchange.is_head_pending or not flow_exchange.is_head_shown:
            flow_exchange.withheld_data += data
            if not flow_exchange.is_head_shown and self._upstream is not None:
                flow_exchange.is_head_pending = flow_exchange.is_head_shown = True
                self._sockets.pause_reading(self._upstream.connection)
                hook = flow_exchange.mirror.response_headers_hook(response.head)
                self._sockets.wait_for_hook(hook, lambda: self._on_response_shown(flow_exchange))
        else:
            super()._forward_response(exchange, data)

    def _on_response_shown(self, flow_exchange: FlowExchange) -> None:
        flow_exchange.is_head_pending = False
        if flow_exchange.mirror is None or self._close_if_killed(flow_exchange.mirror):
            return
        upstream = self._upstream
        if upstream is not None:
            self._sockets.resume_reading(upstream.connection)
        data, flow_exchange.withheld_data = flow_exchange.withheld_data, b""
        self._forward_response(flow_exchange, data)
        if upstream is not None and upstream.at_eof and self._phase is not Phase.CLOSED:
            self._handle_target_eof(upstream)

    def _handle_target_eof(self, upstream: UpstreamConnection) -> None:
        """Handle the EOF after the withheld data was sent."""
        if self._exchange is None or not self._exchange.is_head_pending:
            super()._handle_target_eof(upstream)

    def _upgrade(self, exchange: Exchange) -> None:
        self._finish_mirror(self._require_flow_exchange(), "")
        super()._upgrade(exchange)

    def _end_exchange(self, reason: str) -> None:
        if self._exchange is not None:
            self._finish_mirror(self._exchange, self._exchange.refusal_message or reason)
        super()._end_exchange(reason)

    def _finish_mirror(self, exchange: FlowExchange, error: str) -> None:
        if exchange.mirror is not None:
            exchange.mirror.finish(error, self._sockets.run_hook)

    def _require_flow_exchange(self) -> FlowExchange:
        if self._exchange is None:
            raise RuntimeError("no request is running")
        return self._exchange
