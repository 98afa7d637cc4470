"""The first stage of a client connection: its first byte says whether it is TLS, its first head what it is.

CONNECT with the right to use a Connector opens a tunnel: a TLS handshake takes the gate's place. Origin form is for a
Connector (the direct door: `Requests` takes the gate's place) or for the proxy itself. Anything else is refused.
"""

import logging
import time
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.authorizer import AuthorizationResult, Authorizer
from addons.access.connector_request import TunnelGrant
from addons.http1.framing import RequestReader
from addons.http1.messages import InvalidMessage, MessageEvent, RequestHead
from addons.net.sockets import PlainStream, Sockets
from addons.net.stage import Drain, ShutDown, TimerExpired, TimerKind
from addons.net.tls import ClientStream, TlsStream
from addons.records.record import Record
from addons.relay import pages, replies
from addons.relay.flow_requests import FlowRequests
from addons.relay.handshake import Handshake
from addons.relay.pages import Page
from addons.relay.requests import Requests
from addons.relay.routes import DirectRoute, Route, TunnelRoute
from addons.relay.shared_context import SharedContext
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import Forward, Inject
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.address_matching import host_of_authority

logger = logging.getLogger(__name__)

MAX_FIRST_HEAD: Final = 32768
"""Bytes of a first head: whoever sends it is not known. A CONNECT with the longest token has 17 kB."""
_CLIENT_HELLO = 0x16
"""RFC 8446 section 5.1: the first byte of a handshake record. No HTTP message begins with it."""
_CONNECTION_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Gate:
    """See the module's text."""

    def __init__(self, shared: SharedContext, sockets: Sockets) -> None:
        self._shared = shared
        self._sockets = sockets
        self._port_tls: TlsStream | None = None
        """TLS at the port."""
        self._client: ClientStream | None = None
        """None until the first byte has come, or TLS at the port stands."""
        self._max_head = min(shared.max_header, MAX_FIRST_HEAD)
        self._reader = RequestReader(max_head=self._max_head)
        self._head: RequestHead | None = None
        self._await_head()

    def _await_head(self) -> None:
        self._started_at = time.perf_counter()
        self._sockets.set_stage(self)
        self._sockets.start_timer(self._shared.timeouts.client, TimerKind.CLIENT)

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
        """What the client said."""
        messages = self._reader.receive(plaintext)
        for message in messages[:1]:
            if isinstance(message, RequestHead):
                self._handle_head(message, messages)
            elif isinstance(message, InvalidMessage):
                deny = denial.invalid_message(message.status, message.reason, self._max_head)
                self._refuse(AuthorizationResult(deny, None), deny, on_connect=False)

    def _start_tls(self, initial_data: bytes) -> None:
        """TLS at the port: then the first head is awaited within."""
        shared, sockets = self._shared, self._sockets

        def create_session() -> TlsStream:
            return TlsStream(sockets.client, shared.certificates.create_port_session(sockets.local_ip), sockets)

        def on_established(client: TlsStream, plaintext: bytes) -> None:
            self._port_tls = self._client = client
            self._await_head()
            self.handle_plaintext(plaintext)

        def on_failed(reason: str) -> None:
            self._record(AuthorizationResult(denial.internal_error(), None), 0, reason)

        handshake = Handshake(sockets, shared.timeouts.client, create_session, on_established, on_failed)
        sockets.set_stage(handshake)
        handshake.start(initial_data)

    def eof_received(self, connection: Connection) -> None:
        self._close("closed before CONNECT and TLS were whole" if self._reader.buffer else "")

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired):
            self._close("no CONNECT in time")
        elif isinstance(event, ShutDown) or (isinstance(event, Drain) and self._head is None):
            self._close("")

    def connection_lost(self) -> None:
        """Nothing is left to do."""

    def _handle_head(self, head: RequestHead, messages: list[MessageEvent]) -> None:
        """`found` begins with the head."""
        self._head = head
        self._sockets.stop_timer()
        if head.method == b"CONNECT":
            authorizer = Authorizer(self._shared.checks, self._sockets)
            authorization = authorizer.authorize_connect(
                head, lambda decision: self._on_decision(head, authorizer, decision)
            )
            if authorization is not None:
                self._apply_decision(head, authorizer, authorization)
        elif not head.target.startswith(b"/"):
            deny = denial.absolute_form()
            self._refuse(AuthorizationResult(deny, None), deny, on_connect=False)
        elif not pages.is_page(head.target) and (route := self._direct_route()).is_for_connector(head):
            self._serve_direct(route, messages)
        else:
            self._sockets.pause_reading()
            response = self._shared.pages.respond(head.method, head.target, head.headers, self._sockets.source_ip)
            fallback: Page | Deny = denial.internal_error()
            self._sockets.run_task(
                "a page of the proxy", response, fallback, lambda answer: self._send_page(head, answer)
            )

    def _direct_route(self) -> DirectRoute:
        return DirectRoute(self._shared.names, _server_name(self._port_tls) if self._port_tls is not None else None)

    def _serve_direct(self, route: DirectRoute, messages: list[MessageEvent]) -> None:
        """Hand the sockets on to requests that name their Connector themselves."""
        authorizer = Authorizer(self._shared.checks, self._sockets)
        requests = self._create_requests(authorizer, route, self._require_client(), self._reader)
        self._sockets.set_stage(requests)
        requests.take_over(messages)

    def _create_requests(
        self, authorizer: Authorizer, route: Route, client: ClientStream, reader: RequestReader
    ) -> Requests:
        requests_class = FlowRequests if self._shared.shows_flows else Requests
        return requests_class(self._shared, self._sockets, authorizer, route, client, reader)

    def _send_page(self, head: RequestHead, page: Page | Deny) -> None:
        if isinstance(page, Deny):
            self._refuse(AuthorizationResult(page, None), page, on_connect=False)
            return
        self._send_final_response(replies.render_page(page, with_body=head.method != b"HEAD"))

    def _on_decision(self, head: RequestHead, authorizer: Authorizer, authorization: AuthorizationResult) -> None:
        self._apply_decision(head, authorizer, authorization)
        self._sockets.resume_reading()

    def _apply_decision(self, head: RequestHead, authorizer: Authorizer, authorization: AuthorizationResult) -> None:
        verdict = authorization.decision
        if isinstance(verdict, Deny):
            self._refuse(authorization, verdict, on_connect=True)
            return
        if authorization.key is None:
            raise RuntimeError("nobody has asked for a Connector")
        self._record(authorization, 200, "")
        authority = head.target.decode("ascii")
        host = verdict.target.address.host if isinstance(verdict, Inject | Forward) else host_of_authority(authority)
        grant = TunnelGrant(
            key=authorization.key,
            authority=authority,
            host=host or "",
            token=authorization.token,
            identity=authorization.identity,
        )
        self._require_client().send(_CONNECTION_ESTABLISHED)
        self._open_tunnel(authorizer, grant)

    def _open_tunnel(self, authorizer: Authorizer, grant: TunnelGrant) -> None:
        """Hand the sockets on to the handshake in the tunnel, and that to its requests."""
        shared, sockets, port_tls = self._shared, self._sockets, self._port_tls

        def create_session() -> TlsStream:
            return TlsStream(
                sockets.client, shared.certificates.create_tunnel_session(grant.host), sockets, outer=port_tls
            )

        def on_established(client: TlsStream, plaintext: bytes) -> None:
            reader = RequestReader(max_head=shared.max_header)
            requests = self._create_requests(authorizer, TunnelRoute(grant), client, reader)
            sockets.set_stage(requests)
            requests.start(plaintext)

        def on_failed(reason: str) -> None:
            authorization = AuthorizationResult(denial.internal_error(), grant.key, grant.identity)
            self._record(authorization, 0, reason)

        handshake = Handshake(sockets, shared.timeouts.client, create_session, on_established, on_failed)
        sockets.set_stage(handshake)
        handshake.start(self._reader.take_pending())

    def _refuse(self, authorization: AuthorizationResult, deny: Deny, *, on_connect: bool) -> None:
        self._record(authorization, deny.status, deny.cause)
        self._send_final_response(replies.render_refusal(deny, on_connect=on_connect))

    def _record(self, authorization: AuthorizationResult, status: int, cause: str) -> None:
        head = self._head
        record = Record(
            event="connect",
            connector=authorization.key,
            status=status,
            source_ip=self._sockets.source_ip,
            duration=time.perf_counter() - self._started_at,
            identity=authorization.identity,
            target=head.target.decode("ascii") if head is not None else "",
            user_agent=head.headers.user_agent if head is not None else "",
            cause=cause,
        )
        for recorder in self._shared.recorders:
            recorder(record)

    def _send_final_response(self, response: bytes) -> None:
        client = self._require_client()
        client.send(response)
        client.send_eof()
        self._sockets.linger(until_sent=False)

    def _require_client(self) -> ClientStream:
        if self._client is None:
            raise RuntimeError("nothing was said yet")
        return self._client

    def _close(self, reason: str) -> None:
        if reason:
            logger.debug("client %s: %s", self._sockets.source_ip, reason)
            self._record(AuthorizationResult(denial.internal_error(), None), 0, reason)
        self._sockets.close(self._sockets.client)


def _server_name(client: TlsStream) -> str:
    """What the client has asked for (RFC 6066 section 3); empty if nothing."""
    return (client.tls.get_servername() or b"").decode("ascii", "replace").lower()
