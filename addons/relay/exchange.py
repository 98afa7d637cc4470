"""One request and its response, from the head of the one to the end of the other; and its records."""

import time
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal
from uuid import uuid4

from addons.access.authorizer import AuthorizationResult
from addons.access.connector_request import ConnectorRequest
from addons.access.live_connections import LiveAccess
from addons.http1.messages import BodyEnd, EndOfMessage, MessageEvent, RequestHead, render_chunk, render_last_chunk
from addons.records.record import Record, Recorders
from addons.relay import inject
from addons.relay.response import Response
from connector_store.domain.base.request_info import RequestInfo, parse_request
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision.decide import Forward, Inject
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.warning import permissions_warning
from connector_store.domain.permissions.permissions import is_self_review, parse_request_attributes

_LONG_RUNNING_SUBRESOURCES = ("log", "exec", "attach", "portforward")
_PROCESS_UUID: Final = uuid4().hex
_REQUEST_NUMBERS: Final = count(1)


def _new_audit_id() -> str:
    """A UUID that no other request has: of this process by chance (68 bits), in it by number."""
    return f"{_PROCESS_UUID[:8]}-{_PROCESS_UUID[8:12]}-4{_PROCESS_UUID[13:16]}-8{_PROCESS_UUID[17:20]}-{next(_REQUEST_NUMBERS):012x}"


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Bytes are counted without framing of ours towards the target, with it towards the client."""

    head: RequestHead
    """First as it came, without what has named the Connector; from the decision on as the target gets it."""
    source_ip: str
    connector_request: ConnectorRequest | None = None
    """None where it was no request, or names no Connector."""
    identity: Identity | None = None
    """Of whoever opened the tunnel, where that is known."""
    authorization: AuthorizationResult | None = None
    """What the request may do; None before it is decided."""
    response: Response | None = None
    """None until the target has the request's head."""
    is_connection_reused: bool = False
    """The connection to the target had served a request before this one."""
    is_retry: bool = False
    """It was sent once, to a target that ended such a connection without a word; it is sent on a new one."""
    unsent_body: list[bytes] = field(default_factory=list)
    """Body that came while the request waited: what one read had, as the client is not read then."""
    is_request_complete: bool = False
    """The request has been read to its end."""
    bytes_in: int = 0
    bytes_out: int = 0
    status: int = 0
    cause: str = ""
    refusal_message: str = ""
    """Why it was refused, in words."""
    long_running_kind: str = ""
    """What lives as long as its client wants: the kind of stream that the response began."""
    audit_id: str = ""
    """The name of the request in the target's audit log; empty while it has not gone there."""
    is_recorded: bool = False
    """It has been written down to its end."""
    started_at: float = field(default_factory=time.perf_counter)
    _info: RequestInfo | None = None

    @property
    def live_access(self) -> LiveAccess | None:
        """What it was admitted with, while it runs."""
        authorization = self.authorization
        if authorization is None or self.is_recorded or not isinstance(authorization.decision, Inject | Forward):
            return None
        verdict, head = authorization.decision, self.head
        prefix = verdict.target.address.prefix
        return LiveAccess(
            verdict.target,
            authorization.token or "",
            verdict.grant,
            lambda: parse_request_attributes(head.method, head.target, head.headers, prefix),
        )

    def append_body(self, message: MessageEvent, out: list[bytes]) -> None:
        """Add a piece of the body, framed for the target."""
        if isinstance(message, EndOfMessage):
            self.is_request_complete = True
            if self.head.body is BodyEnd.LAST_CHUNK:
                # RFC 9110 section 6.5: trailers may be dropped; no Kubernetes client sends any.
                out.append(render_last_chunk([]))
        elif isinstance(message, bytes):
            out.append(render_chunk(message) if self.head.body is BodyEnd.LAST_CHUNK else message)

    def forward(self, decision: Inject | Forward, *, max_head: int, must_close: bool, forwarded_for: bool) -> bytes:
        """What the target gets first, as the decision says; from now on its response is awaited.

        `last`: the client's connection ends with that response, and the client shall know. `tells_address`: the target
        gets the client's address, in X-Forwarded-For.
        """
        # Only a request without a body can be switched to another protocol (RFC 9110 section 7.8).
        upgrade = self.head.headers.upgrade_protocol if not self.head.body else None
        self.response = self._create_response(decision, upgrade, max_head=max_head)
        self.response.must_close = self.response.must_close or must_close
        if decision.target.permissions is not None and is_self_review(self._request_info()):
            self.response.warnings.append(permissions_warning(decision.target.key))
        self.audit_id = self.audit_id or _new_audit_id()
        request_bytes = inject.render_request_head(
            self.head, decision, upgrade, self.audit_id, self.source_ip if forwarded_for else ""
        )
        if self.unsent_body:
            request_bytes = b"".join([request_bytes, *self.unsent_body])
            self.unsent_body.clear()
        return request_bytes

    def _create_response(self, decision: Inject | Forward, upgrade: bytes | None, *, max_head: int) -> Response:
        return Response(self.head, decision.target, upgrade, max_head=max_head)

    @property
    def should_retry(self) -> bool:
        """A used connection failed before any byte of an answer, and asking twice is as good as asking once."""
        response = self.response
        return (
            self.is_connection_reused
            and not self.is_retry
            and response is not None
            and response.is_empty
            and self.is_request_complete
            and self.is_replayable
        )

    @property
    def is_replayable(self) -> bool:
        """Asking twice is as good as asking once.

        RFC 9110 section 9.2.2 has PUT and DELETE too, but the second answer of an API server to them is another one:
        409, 404. An upgrade begins what may not be begun twice (the command of an exec).
        """
        head = self.head
        return head.method in (b"GET", b"HEAD") and not head.body and head.headers.upgrade_protocol is None

    def set_refusal(self, deny: Deny) -> None:
        self.status, self.cause, self.refusal_message = deny.status, deny.cause, deny.message

    def record_response(self, recorders: Recorders) -> None:
        """The head of the response has come. A stream is written down now, and again when it ends."""
        response = self.response
        if response is None or response.head is None or self.status:
            return
        self.status = response.head.status
        self.long_running_kind = self._classify_long_running(response)
        if self.long_running_kind:
            self._write_record(recorders, "request")
            response.drop_headers()

    def record_end(self, reason: str, recorders: Recorders) -> None:
        """Write it down, once; `reason` says how a stream came to its end."""
        if self.is_recorded:
            return
        self.is_recorded = True
        if self.long_running_kind:
            self.cause = reason
            self._write_record(recorders, "stream")
        else:
            self.cause = self.cause or reason
            self._write_record(recorders, "request")

    def _classify_long_running(self, response: Response) -> str:
        info = self._request_info()
        if response.is_upgraded:
            return info.subresource if info.subresource in _LONG_RUNNING_SUBRESOURCES else "upgrade"
        if info.verb == "watch":
            return "watch"
        return "log" if info.subresource == "log" and b"follow=" in self.head.target else ""

    def _request_info(self) -> RequestInfo:
        """The request as the API server reads it."""
        if self._info is None:
            decision = self.authorization.decision if self.authorization is not None else None
            if isinstance(decision, Deny) and decision.request_info is not None:
                self._info = decision.request_info
                return self._info
            prefix = decision.target.address.prefix if isinstance(decision, Inject | Forward) else ""
            self._info = parse_request(self.head.method.decode("ascii"), self.head.target.decode("ascii"), prefix)
        return self._info

    def _write_record(self, recorders: Recorders, event: Literal["request", "stream"]) -> None:
        authorization, connector_request = self.authorization, self.connector_request
        verdict = authorization.decision if authorization is not None else None
        record = Record(
            event=event,
            connector=connector_request.key if connector_request is not None else None,
            status=self.status,
            source_ip=self.source_ip,
            duration=time.perf_counter() - self.started_at,
            identity=(authorization.identity if authorization is not None else None) or self.identity,
            info=self._request_info() if self.head.target else None,
            target=self.head.target.decode("ascii"),
            user_agent=self.head.headers.user_agent,
            cause=self.cause,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            stream_kind=self.long_running_kind,
            role=verdict.role if isinstance(verdict, Inject | Forward | Deny) else "",
            audit_id=self.audit_id,
        )
        for recorder in recorders:
            recorder(record)
