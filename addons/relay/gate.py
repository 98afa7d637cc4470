"""First stage of a client connection. It detects TLS by the first byte, and dispatches on the first head.

- CONNECT by a caller who may use the Connector opens a tunnel. The next stage is `Handshake`.
- Origin form is for a Connector (direct access, the next stage is `Requests`) or for a page of the proxy.
- Other requests are refused.
"""

import logging
import time
from functools import partial
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.authorizer import AuthorizationResult, Authorizer
from addons.access.connector_request import ConnectorRequest
from addons.http1.framing import RequestReader
from addons.http1.messages import InvalidMessage, MessageEvent, RequestHead
from addons.net.sockets import PlainStream, Sockets
from addons.net.stage import Drain, ShutDown, TimerExpired, TimerKind
from addons.net.tls import ClientStream, TlsStream
from addons.records.record import Record
from addons.relay import pages, replies
from addons.relay.exchange import Exchange
from addons.relay.flow_labels import FlowLabel
from addons.relay.flow_requests import FlowExchange, FlowRequests, show_refusal
from addons.relay.handshake import Handshake
from addons.relay.pages import Page
from addons.relay.requests import Requests
from addons.relay.routes import DirectRoute, Route, TunnelRoute
from addons.relay.shared_context import SharedContext
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import ALLOWING
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.redaction import redact_tokens
from connector_store.domain.objects.address_matching import host_of_authority

logger = logging.getLogger(__name__)

MAX_FIRST_HEAD: Final = 32768
"""Maximum bytes of the first head, whose sender is not authenticated. A CONNECT with the longest token has 17 kB."""
_CLIENT_HELLO = 0x16
"""First byte of a handshake record (RFC 8446 section 5.1). No HTTP message begins with it."""
_CONNECTION_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Gate:
    """Stage that reads the first head of a client connection."""

    def __init__(self, context: SharedContext, sockets: Sockets) -> None:
        self._context = context
        self._sockets = sockets
        self._port_tls: TlsStream | None = None
        """TLS session at the port; None if the client speaks plaintext."""
        self._client: ClientStream | None = None
        """None before the first byte, and during a TLS handshake at the port."""
        self._max_head = min(context.max_header, MAX_FIRST_HEAD)
        self._reader = RequestReader(max_head=self._max_head)
        self._head: RequestHead | None = None
        self._await_head()

    def _await_head(self) -> None:
        self._started_at = time.perf_counter()
        self._sockets.set_stage(self)
        self._sockets.start_timer(self._context.timeouts.client, TimerKind.CLIENT)

    def data_received(self, connection: Connection, data: memoryview) -> None:
        client = self._client
        if client is None:
            if data[0] == _CLIENT_HELLO:
                self._start_tls(bytes(data))
                return
            client = self._client = PlainStream(connection, self._sockets)
        try:
            plaintext = client.receive(data)
        except ConnectionError as error:
            self._close(str(error))
            return
        self.handle_plaintext(plaintext)
        if client.at_eof and self._head is None:
            self._close("closed before CONNECT and TLS were whole")

    def handle_plaintext(self, plaintext: bytes) -> None:
        """Process plaintext from the client."""
        messages = self._reader.receive(plaintext)
        for message in messages[:1]:
            if isinstance(message, RequestHead):
                self._handle_head(message, messages)
            elif isinstance(message, InvalidMessage):
                deny = denial.invalid_message(message.status, message.reason, self._max_head)
                self._refuse(AuthorizationResult(deny), deny, on_connect=False)

    def _start_tls(self, initial_data: bytes) -> None:
        """Start TLS at the port. The first head is expected inside."""
        certificates, sockets = self._context.certificates, self._sockets

        def on_established(client: TlsStream, plaintext: bytes) -> None:
            sockets.call_when_authenticated(partial(certificates.accept, client.tls))
            self._port_tls = self._client = client
            self._await_head()
            self.handle_plaintext(plaintext)

        def on_failed(reason: str, server_name: str) -> None:
            self._record(AuthorizationResult(denial.internal_error()), 0, reason, redact_tokens(server_name))

        get_names = partial(certificates.names_at_port, sockets.local_ip)
        handshake = Handshake(
            sockets, self._context.timeouts.client, certificates, get_names, on_established, on_failed
        )
        sockets.set_stage(handshake)
        handshake.receive(initial_data)

    def eof_received(self, connection: Connection) -> None:
        self._close("closed before CONNECT and TLS were whole" if self._reader.buffer else "")

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired):
            self._close("no CONNECT in time")
        elif isinstance(event, ShutDown) or (isinstance(event, Drain) and self._head is None):
            self._close("")

    def connection_lost(self) -> None:
        """Do nothing: the gate owns no resources."""

    def _handle_head(self, head: RequestHead, messages: list[MessageEvent]) -> None:
        """Handle the first head. It is the first element of `messages`."""
        self._head = head
        self._sockets.stop_timer()
        if head.method == b"CONNECT":
            authorizer = Authorizer(self._context.access_context, self._sockets)
            authorization = authorizer.authorize_connect(
                head, lambda result: self._on_decision(head, authorizer, result)
            )
            if authorization is not None:
                self._apply_decision(head, authorizer, authorization)
        elif not head.target.startswith(b"/"):
            deny = denial.absolute_form()
            self._refuse(AuthorizationResult(deny), deny, on_connect=False)
        elif not pages.is_page(head.target) and (route := self._direct_route()).is_for_connector(head):
            self._serve_direct(route, messages)
        else:
            self._sockets.pause_reading()
            page = self._context.pages.respond(head.method, head.target, head.headers, self._sockets.source_ip)
            fallback: Page | Deny = denial.internal_error()
            self._sockets.run_task("a page of the proxy", page, fallback, lambda page: self._send_page(head, page))

    def _direct_route(self) -> DirectRoute:
        server_name = _server_name(self._port_tls) if self._port_tls is not None else None
        return DirectRoute(self._context.names, server_name, self._context.get_via_key())

    def _serve_direct(self, route: DirectRoute, messages: list[MessageEvent]) -> None:
        """Start the stage for requests that name their Connector themselves."""
        authorizer = Authorizer(self._context.access_context, self._sockets)
        requests = self._create_requests(authorizer, route, self._require_client(), self._reader)
        self._sockets.set_stage(requests)
        requests.take_over(messages)

    def _create_requests(
        self, authorizer: Authorizer, route: Route, client: ClientStream, reader: RequestReader
    ) -> Requests[Exchange] | FlowRequests:
        parts = self._context, self._sockets, authorizer, route, client, reader
        return FlowRequests(*parts, FlowExchange) if self._context.shows_flows else Requests(*parts, Exchange)

    def _send_page(self, head: RequestHead, page: Page | Deny) -> None:
        if isinstance(page, Deny):
            self._refuse(AuthorizationResult(page), page, on_connect=False)
            return
        self._send_final_response(replies.render_page(page, with_body=head.method != b"HEAD"))

    def _on_decision(self, head: RequestHead, authorizer: Authorizer, authorization: AuthorizationResult) -> None:
        self._apply_decision(head, authorizer, authorization)
        self._sockets.resume_reading()

    def _apply_decision(self, head: RequestHead, authorizer: Authorizer, authorization: AuthorizationResult) -> None:
        decision = authorization.decision
        if isinstance(decision, Deny):
            self._refuse(authorization, decision, on_connect=True)
            return
        request = authorization.request
        if request is None:
            raise RuntimeError("the CONNECT names no Connector")
        self._record(authorization, 200, "")
        authority = request.authority or ""
        host = decision.target.address.host if isinstance(decision, ALLOWING) else host_of_authority(authority)
        self._require_client().send(_CONNECTION_ESTABLISHED)
        self._open_tunnel(authorizer, request, authorization.identity, host or "")

    def _open_tunnel(
        self, authorizer: Authorizer, request: ConnectorRequest, identity: Identity | None, host: str
    ) -> None:
        """Start the TLS handshake in the tunnel, which is followed by the stage for requests."""
        context, sockets, certificates = self._context, self._sockets, self._context.certificates

        def on_established(client: TlsStream, plaintext: bytes) -> None:
            sockets.call_when_authenticated(partial(certificates.accept, client.tls))
            reader = RequestReader(max_head=context.max_header)
            requests = self._create_requests(authorizer, TunnelRoute(request, identity), client, reader)
            sockets.set_stage(requests)
            requests.start(plaintext)

        def on_failed(reason: str, server_name: str) -> None:
            authorization = AuthorizationResult(denial.internal_error(), request, identity)
            self._record(authorization, 0, reason, redact_tokens(server_name))

        get_names = partial(certificates.names_in_tunnel, host)
        handshake = Handshake(
            sockets, context.timeouts.client, certificates, get_names, on_established, on_failed, outer=self._port_tls
        )
        sockets.set_stage(handshake)
        if self._reader.buffer:
            handshake.receive_decrypted(self._reader.take_pending())

    def _refuse(self, authorization: AuthorizationResult, deny: Deny, *, on_connect: bool) -> None:
        self._record(authorization, deny.status, deny.cause, deny.detail, deny.message)
        if self._context.shows_flows:
            label = FlowLabel(
                connector=authorization.request.key if authorization.request is not None else None,
                identity=authorization.identity,
                source_ip=self._sockets.source_ip,
                info=None,
                refusal=deny,
            )
            show_refusal(self._context, self._sockets, self._head, label)
        self._send_final_response(replies.render_refusal(deny, on_connect=on_connect))

    def _record(
        self, authorization: AuthorizationResult, status: int, cause: str, detail: str = "", message: str = ""
    ) -> None:
        head = self._head
        record = Record(
            event="connect",
            connector=authorization.request.key if authorization.request is not None else None,
            status=status,
            source_ip=self._sockets.source_ip,
            duration=time.perf_counter() - self._started_at,
            identity=authorization.identity,
            target=head.target.decode("ascii") if head is not None else "",
            user_agent=head.headers.user_agent if head is not None else "",
            cause=cause,
            detail=detail,
            message=message,
        )
        for recorder in self._context.recorders:
            recorder(record)

    def _send_final_response(self, response: bytes) -> None:
        client = self._require_client()
        client.send(response)
        client.send_eof()
        self._sockets.linger(until_sent=False)

    def _require_client(self) -> ClientStream:
        if self._client is None:
            raise RuntimeError("the client has not sent anything yet")
        return self._client

    def _close(self, reason: str) -> None:
        if reason:
            logger.debug("client %s: %s", self._sockets.source_ip, reason)
            self._record(AuthorizationResult(denial.internal_error()), 0, reason)
        self._sockets.close(self._sockets.client)


def _server_name(client: TlsStream) -> str:
    """Return the server name that the client sent (RFC 6066 section 3), or an empty string."""
    return (client.tls.get_servername() or b"").decode("ascii", "replace").lower()
