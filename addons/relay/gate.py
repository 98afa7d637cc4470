"""The first stage of a client connection: its first byte says whether it is TLS, its first head what it is.

CONNECT with the right to use a Connector opens a tunnel: a TLS handshake takes the gate's place. Origin form is for a
Connector (the direct door: `Requests` takes the gate's place) or for the proxy itself. Anything else is refused.
"""

import logging
import time
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.admission import Admission, Decision
from addons.access.grant import Grant
from addons.http1.framing import RequestReader
from addons.http1.messages import Event, Invalid, RequestHead
from addons.net.events import Retire, TakeLeave, TimeUp, Wait
from addons.net.sockets import PlainStream, Sockets
from addons.net.tls import Stream, TlsStream
from addons.records.record import Record
from addons.relay import pages, replies
from addons.relay.doors import Direct, Door, Tunnel
from addons.relay.handshake import Handshake
from addons.relay.pages import Page
from addons.relay.requests import Requests
from addons.relay.shared import Shared
from addons.relay.watched import WatchedRequests
from connector_store.domain.decision import denial
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.verdict import Forward, Inject
from connector_store.domain.objects.matching import host_of_authority

logger = logging.getLogger(__name__)

MAX_FIRST_HEAD: Final = 32768
"""Bytes of a first head: whoever sends it is not known. A CONNECT with the longest token has 17 kB."""
_CLIENT_HELLO = 0x16
"""RFC 8446 section 5.1: the first byte of a handshake record. No HTTP message begins with it."""
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Gate:
    """See the module's text."""

    def __init__(self, shared: Shared, sockets: Sockets) -> None:
        self._shared = shared
        self._sockets = sockets
        self._outer: TlsStream | None = None
        """TLS at the port."""
        self._client: Stream | None = None
        """None until the first byte has come, or TLS at the port stands."""
        self._max_head = min(shared.max_header, MAX_FIRST_HEAD)
        self._reader = RequestReader(max_head=self._max_head)
        self._head: RequestHead | None = None
        self._await_head()

    def _await_head(self) -> None:
        self._began = time.perf_counter()
        self._sockets.serve(self)
        self._sockets.arm(self._shared.times.client, Wait.CLIENT)

    def received(self, connection: Connection, data: memoryview) -> None:
        client = self._client
        if client is None:
            if data[0] == _CLIENT_HELLO:
                self._shake_hands(bytes(data))
                return
            client = self._client = PlainStream(connection, self._sockets)
        try:
            plain = client.receive(data)
        except ConnectionError as error:
            self._leave(str(error))
            return
        self.read(plain)
        if client.ended and self._head is None:
            self._leave("closed before CONNECT and TLS were whole")

    def read(self, plain: bytes) -> None:
        """What the client said."""
        found = self._reader.receive(plain)
        for each in found[:1]:
            if isinstance(each, RequestHead):
                self._begin(each, found)
            elif isinstance(each, Invalid):
                deny = denial.invalid_message(each.status, each.reason, self._max_head)
                self._refuse(Decision(deny, None), deny, on_connect=False)

    def _shake_hands(self, hello: bytes) -> None:
        """TLS at the port: then the first head is awaited within."""
        shared, sockets = self._shared, self._sockets

        def make() -> TlsStream:
            return TlsStream(sockets.client, shared.certificates.at_port(sockets.local_ip), sockets)

        def then(client: TlsStream, plain: bytes) -> None:
            self._outer = self._client = client
            self._await_head()
            self.read(plain)

        def failed(why: str) -> None:
            self._record(Decision(denial.internal_error(), None), 0, why)

        handshake = Handshake(sockets, shared.times.client, make, then, failed)
        sockets.serve(handshake)
        handshake.begin(hello)

    def ended(self, connection: Connection) -> None:
        self._leave("closed before CONNECT and TLS were whole" if self._reader.kept else "")

    def tell(self, event: events.Event) -> None:
        if isinstance(event, TimeUp):
            self._leave("no CONNECT in time")
        elif isinstance(event, TakeLeave) or (isinstance(event, Retire) and self._head is None):
            self._leave("")

    def closed(self) -> None:
        """Nothing is left to do."""

    def _begin(self, head: RequestHead, found: list[Event]) -> None:
        """`found` begins with the head."""
        self._head = head
        self._sockets.disarm()
        if head.method == b"CONNECT":
            admission = Admission(self._shared.checks, self._sockets)
            decision = admission.connect(head, lambda decision: self._waited_for(head, admission, decision))
            if decision is not None:
                self._decided(head, admission, decision)
        elif not head.target.startswith(b"/"):
            deny = denial.absolute_form()
            self._refuse(Decision(deny, None), deny, on_connect=False)
        elif not pages.is_page(head.target) and (door := self._door()).leads_on(head):
            self._serve(door, found)
        else:
            self._sockets.hold()
            work = self._shared.pages.answer(head.method, head.target, head.headers, self._sockets.source_ip)
            failed: Page | Deny = denial.internal_error()
            self._sockets.wait_for("a page of the proxy", work, failed, lambda answer: self._show(head, answer))

    def _door(self) -> Direct:
        return Direct(self._shared.names, _server_name(self._outer) if self._outer is not None else None)

    def _serve(self, door: Direct, found: list[Event]) -> None:
        """Hand the sockets on to requests that name their Connector themselves."""
        admission = Admission(self._shared.checks, self._sockets)
        requests = self._requests(admission, door, self._open(), self._reader)
        self._sockets.serve(requests)
        requests.take_over(found)

    def _requests(self, admission: Admission, door: Door, client: Stream, reader: RequestReader) -> Requests:
        make = WatchedRequests if self._shared.watched else Requests
        return make(self._shared, self._sockets, admission, door, client, reader)

    def _show(self, head: RequestHead, answer: Page | Deny) -> None:
        if isinstance(answer, Deny):
            self._refuse(Decision(answer, None), answer, on_connect=False)
            return
        self._say_last(replies.page(answer, with_body=head.method != b"HEAD"))

    def _waited_for(self, head: RequestHead, admission: Admission, decision: Decision) -> None:
        self._decided(head, admission, decision)
        self._sockets.release()

    def _decided(self, head: RequestHead, admission: Admission, decision: Decision) -> None:
        verdict = decision.verdict
        if isinstance(verdict, Deny):
            self._refuse(decision, verdict, on_connect=True)
            return
        if decision.key is None:
            raise RuntimeError("nobody has asked for a Connector")
        self._record(decision, 200, "")
        authority = head.target.decode("ascii")
        host = verdict.target.address.host if isinstance(verdict, Inject | Forward) else host_of_authority(authority)
        grant = Grant(
            key=decision.key,
            authority=authority,
            host=host or "",
            token=decision.token,
            identity=decision.identity,
        )
        self._open().send(_ESTABLISHED)
        self._tunnel(admission, grant)

    def _tunnel(self, admission: Admission, grant: Grant) -> None:
        """Hand the sockets on to the handshake in the tunnel, and that to its requests."""
        shared, sockets, outer = self._shared, self._sockets, self._outer

        def make() -> TlsStream:
            return TlsStream(sockets.client, shared.certificates.connection(grant.host), sockets, outer=outer)

        def then(client: TlsStream, plain: bytes) -> None:
            reader = RequestReader(max_head=shared.max_header)
            requests = self._requests(admission, Tunnel(grant), client, reader)
            sockets.serve(requests)
            requests.begin(plain)

        def failed(why: str) -> None:
            known = Decision(denial.internal_error(), grant.key, grant.identity)
            self._record(known, 0, why)

        handshake = Handshake(sockets, shared.times.client, make, then, failed)
        sockets.serve(handshake)
        handshake.begin(self._reader.take_pending())

    def _refuse(self, decision: Decision, deny: Deny, *, on_connect: bool) -> None:
        self._record(decision, deny.status, deny.cause)
        self._say_last(replies.refusal(deny, on_connect=on_connect))

    def _record(self, decision: Decision, status: int, cause: str) -> None:
        head = self._head
        record = Record(
            event="connect",
            connector=decision.key,
            status=status,
            source_ip=self._sockets.source_ip,
            duration=time.perf_counter() - self._began,
            identity=decision.identity,
            target=head.target.decode("ascii") if head is not None else "",
            user_agent=head.headers.user_agent if head is not None else "",
            cause=cause,
        )
        for tell in self._shared.recorders:
            tell(record)

    def _say_last(self, answer: bytes) -> None:
        client = self._open()
        client.send(answer)
        client.finish()
        self._sockets.linger(patient=False)

    def _open(self) -> Stream:
        if self._client is None:
            raise RuntimeError("nothing was said yet")
        return self._client

    def _leave(self, why: str) -> None:
        if why:
            logger.debug("client %s: %s", self._sockets.source_ip, why)
            self._record(Decision(denial.internal_error(), None), 0, why)
        self._sockets.close(self._sockets.client)


def _server_name(client: TlsStream) -> str:
    """What the client has asked for (RFC 6066 section 3); empty if nothing."""
    return (client.tls.get_servername() or b"").decode("ascii", "replace").lower()
