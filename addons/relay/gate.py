"""The first stage of a client connection: its first head decides what it is.

CONNECT with the right to use a Connector opens a tunnel: the TLS handshake takes the gate's place. Origin form asks the
proxy itself. Anything else is refused.
"""

import logging
import time
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.admission import Admission, Decision
from addons.access.grant import Grant
from addons.http1.framing import RequestReader
from addons.http1.messages import Invalid, RequestHead
from addons.net.events import Retire, TakeLeave, TimeUp, Wait
from addons.net.sockets import Sockets
from addons.records.record import Record
from addons.relay import replies
from addons.relay.handshake import Handshake
from addons.relay.pages import Page
from addons.relay.shared import Shared
from connector_store.domain import denial
from connector_store.domain.denial import Deny
from connector_store.domain.matching import host_of
from connector_store.domain.verdict import Forward, Inject

logger = logging.getLogger(__name__)

MAX_FIRST_HEAD: Final = 32768
"""Bytes of a first head: whoever sends it is not known. A CONNECT with the longest token has 17 kB."""
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Gate:
    """See the module's text."""

    def __init__(self, shared: Shared, sockets: Sockets) -> None:
        self._shared = shared
        self._sockets = sockets
        self._max_head = min(shared.max_header, MAX_FIRST_HEAD)
        self._reader = RequestReader(max_head=self._max_head)
        self._head: RequestHead | None = None
        self._began = time.perf_counter()
        sockets.serve(self)
        sockets.arm(shared.times.client, Wait.CLIENT)

    def received(self, connection: Connection, data: memoryview) -> None:
        for found in self._reader.receive(bytes(data)):
            if isinstance(found, RequestHead):
                self._begin(found)
            elif isinstance(found, Invalid):
                deny = denial.invalid(found.status, found.reason, self._max_head)
                self._refuse(Decision(deny, None), deny, on_connect=False)
                return

    def ended(self, connection: Connection) -> None:
        self._leave("closed before CONNECT and TLS were whole" if self._reader.kept else "")

    def tell(self, event: events.Event) -> None:
        if isinstance(event, TimeUp):
            self._leave("no CONNECT in time")
        elif isinstance(event, TakeLeave) or (isinstance(event, Retire) and self._head is None):
            self._leave("")

    def closed(self) -> None:
        """Nothing is left to do."""

    def _begin(self, head: RequestHead) -> None:
        self._head = head
        self._sockets.disarm()
        if head.method == b"CONNECT":
            admission = Admission(self._shared.checks, self._sockets)
            decision = admission.connect(head, lambda decision: self._waited_for(head, admission, decision))
            if decision is not None:
                self._decided(head, admission, decision)
        elif head.target.startswith(b"/"):
            self._sockets.hold()
            work = self._shared.pages.answer(head.method, head.target, head.headers, self._sockets.source_ip)
            failed: Page | Deny = denial.internal()
            self._sockets.wait_for("a page of the proxy", work, failed, lambda answer: self._show(head, answer))
        else:
            deny = denial.absolute_form()
            self._refuse(Decision(deny, None), deny, on_connect=False)

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
        host = verdict.target.address.host if isinstance(verdict, Inject | Forward) else host_of(authority)
        grant = Grant(
            key=decision.key,
            authority=authority,
            host=host or "",
            token=decision.token,
            identity=decision.identity,
        )
        self._sockets.sender(self._sockets.client)(_ESTABLISHED)
        handshake = Handshake(self._shared, self._sockets, admission, grant)
        self._sockets.serve(handshake)
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
        client = self._sockets.client
        self._sockets.sender(client)(answer)
        self._sockets.finish(client)
        self._sockets.linger(patient=False)

    def _leave(self, why: str) -> None:
        if why:
            logger.info("client %s: %s", self._sockets.source_ip, why)
            self._record(Decision(denial.internal(), None), 0, why)
        self._sockets.close(self._sockets.client)
