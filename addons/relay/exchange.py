"""One request and its response, from the head of the one to the end of the other; and its records."""

import time
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal
from uuid import uuid4

from addons.access.admission import Decision
from addons.access.grant import Asked
from addons.access.live import Live
from addons.http1.messages import End, Event, RequestHead, Until, render_chunk, render_last_chunk
from addons.records.record import Record, Recorders
from addons.relay import inject
from addons.relay.response import Response
from connector_store.domain.base.request_info import RequestInfo, parse_request
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.verdict import Forward, Inject
from connector_store.domain.decision.warning import permissions_warning
from connector_store.domain.permissions.permissions import is_self_review, parse_request_attributes

_FOLLOWED = ("log", "exec", "attach", "portforward")
_PROCESS: Final = uuid4().hex
_NUMBERS: Final = count(1)


def _new_audit_id() -> str:
    """A UUID that no other request has: of this process by chance (68 bits), in it by number."""
    return f"{_PROCESS[:8]}-{_PROCESS[8:12]}-4{_PROCESS[13:16]}-8{_PROCESS[17:20]}-{next(_NUMBERS):012x}"


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Bytes are counted without framing of ours towards the target, with it towards the client."""

    head: RequestHead
    """First as it came, without what has named the Connector; from the decision on as the target gets it."""
    source_ip: str
    asked: Asked | None = None
    """None where it was no request, or names no Connector."""
    identity: Identity | None = None
    """Of whoever opened the tunnel, where that is known."""
    decision: Decision | None = None
    """What the request may do; None before it is decided."""
    response: Response | None = None
    """None until the target has the request's head."""
    used: bool = False
    """The connection to the target had served a request before this one."""
    again: bool = False
    """It was sent once, to a target that ended such a connection without a word; it is sent on a new one."""
    backlog: list[bytes] = field(default_factory=list)
    """Body that came while the request waited: what one read had, as the client is not read then."""
    whole: bool = False
    """The request has been read to its end."""
    bytes_in: int = 0
    bytes_out: int = 0
    status: int = 0
    cause: str = ""
    problem: str = ""
    """Why it was refused, in words."""
    stream: str = ""
    """What lives as long as its client wants: the kind of stream that the response began."""
    audit_id: str = ""
    """The name of the request in the target's audit log; empty while it has not gone there."""
    over: bool = False
    """It has been written down to its end."""
    began: float = field(default_factory=time.perf_counter)
    _info: RequestInfo | None = None

    @property
    def live(self) -> Live | None:
        """What it was admitted with, while it runs."""
        decision = self.decision
        if decision is None or self.over or not isinstance(decision.verdict, Inject | Forward):
            return None
        verdict, head = decision.verdict, self.head
        prefix = verdict.target.address.prefix
        return Live(
            verdict.target,
            decision.token or "",
            verdict.grant,
            lambda: parse_request_attributes(head.method, head.target, head.headers, prefix),
        )

    def take(self, event: Event, out: list[bytes]) -> None:
        """Add a piece of the body, framed for the target."""
        if isinstance(event, End):
            self.whole = True
            if self.head.body is Until.LAST_CHUNK:
                # RFC 9110 section 6.5: trailers may be dropped; no Kubernetes client sends any.
                out.append(render_last_chunk([]))
        elif isinstance(event, bytes):
            out.append(render_chunk(event) if self.head.body is Until.LAST_CHUNK else event)

    def forward(self, verdict: Inject | Forward, *, max_head: int, last: bool, tells_address: bool) -> bytes:
        """What the target gets first, as the decision says; from now on its response is awaited.

        `last`: the client's connection ends with that response, and the client shall know. `tells_address`: the target
        gets the client's address, in X-Forwarded-For.
        """
        # Only a request without a body can be switched to another protocol (RFC 9110 section 7.8).
        upgrade = self.head.headers.upgrade_protocol if not self.head.body else None
        self.response = self._respond(verdict, upgrade, max_head=max_head)
        self.response.last = self.response.last or last
        if verdict.target.permissions is not None and is_self_review(self._read()):
            self.response.warnings.append(permissions_warning(verdict.target.key))
        self.audit_id = self.audit_id or _new_audit_id()
        start = inject.request_bytes(
            self.head, verdict, upgrade, self.audit_id, self.source_ip if tells_address else ""
        )
        if self.backlog:
            start = b"".join([start, *self.backlog])
            self.backlog.clear()
        return start

    def _respond(self, verdict: Inject | Forward, upgrade: bytes | None, *, max_head: int) -> Response:
        return Response(self.head, verdict.target, upgrade, max_head=max_head)

    @property
    def may_be_sent_again(self) -> bool:
        """A used connection failed before any byte of an answer, and asking twice is as good as asking once."""
        response = self.response
        return (
            self.used
            and not self.again
            and response is not None
            and response.untouched
            and self.whole
            and self.repeatable
        )

    @property
    def repeatable(self) -> bool:
        """Asking twice is as good as asking once.

        RFC 9110 section 9.2.2 has PUT and DELETE too, but the second answer of an API server to them is another one:
        409, 404. An upgrade begins what may not be begun twice (the command of an exec).
        """
        head = self.head
        return head.method in (b"GET", b"HEAD") and not head.body and head.headers.upgrade_protocol is None

    def denied(self, deny: Deny) -> None:
        self.status, self.cause, self.problem = deny.status, deny.cause, deny.message

    def answered(self, recorders: Recorders) -> None:
        """The head of the response has come. A stream is written down now, and again when it ends."""
        response = self.response
        if response is None or response.head is None or self.status:
            return
        self.status = response.head.status
        self.stream = self._kind(response)
        if self.stream:
            self._tell(recorders, "request")
            response.forget_fields()

    def ended(self, reason: str, recorders: Recorders) -> None:
        """Write it down, once; `reason` says how a stream came to its end."""
        if self.over:
            return
        self.over = True
        if self.stream:
            self.cause = reason
            self._tell(recorders, "stream")
        else:
            self.cause = self.cause or reason
            self._tell(recorders, "request")

    def _kind(self, response: Response) -> str:
        info = self._read()
        if response.switched:
            return info.subresource if info.subresource in _FOLLOWED else "upgrade"
        if info.verb == "watch":
            return "watch"
        return "log" if info.subresource == "log" and b"follow=" in self.head.target else ""

    def _read(self) -> RequestInfo:
        """The request as the API server reads it."""
        if self._info is None:
            verdict = self.decision.verdict if self.decision is not None else None
            if isinstance(verdict, Deny) and verdict.request_info is not None:
                self._info = verdict.request_info
                return self._info
            prefix = verdict.target.address.prefix if isinstance(verdict, Inject | Forward) else ""
            self._info = parse_request(self.head.method.decode("ascii"), self.head.target.decode("ascii"), prefix)
        return self._info

    def _tell(self, recorders: Recorders, event: Literal["request", "stream"]) -> None:
        decision, asked = self.decision, self.asked
        verdict = decision.verdict if decision is not None else None
        record = Record(
            event=event,
            connector=asked.key if asked is not None else None,
            status=self.status,
            source_ip=self.source_ip,
            duration=time.perf_counter() - self.began,
            identity=(decision.identity if decision is not None else None) or self.identity,
            info=self._read() if self.head.target else None,
            target=self.head.target.decode("ascii"),
            user_agent=self.head.headers.user_agent,
            cause=self.cause,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            stream=self.stream,
            role=verdict.role if isinstance(verdict, Inject | Forward | Deny) else "",
            audit_id=self.audit_id,
        )
        for tell in recorders:
            tell(record)
