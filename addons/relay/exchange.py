"""One request with its response, from the head of the request to the end of the response, and its audit records."""

import shlex
import time
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, Literal
from uuid import uuid4

from addons.access.authorizer import AuthorizationResult
from addons.access.connector_request import ConnectorRequest
from addons.access.live_connections import LiveAccess
from addons.http1.messages import BodyEnd, EndOfMessage, MessageEvent, RequestHead, render_chunk, render_last_chunk
from addons.records.record import Record, Recorders
from addons.records.session_row import SessionRow, session_kind, shorten
from addons.relay import inject
from addons.relay.response import Progress, Response
from addons.relay.rewriting import ResponseRewriter, make_dry_run, mask_rewriter, review_rewriter
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.request_info import RequestInfo, parse_request
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import ALLOWING, Forward, Inject
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.redaction import command_words
from connector_store.domain.decision.warning import dry_run_warning
from connector_store.domain.permissions.delete_options import MAX_DELETE_OPTIONS, rewrite_delete_options
from connector_store.domain.permissions.request_attributes import parse_request_attributes
from connector_store.domain.permissions.restrictions import Treatment

_LONG_RUNNING_SUBRESOURCES = ("log", "exec", "attach", "portforward")
_TREATMENTS: Final = {Treatment.MASK: "masked", Treatment.DRY_RUN: "dry_run"}
"""Names in audit records."""
_PROCESS_UUID: Final = uuid4().hex
_AUDIT_ID_PREFIX: Final = f"{_PROCESS_UUID[:8]}-{_PROCESS_UUID[8:12]}-4{_PROCESS_UUID[13:16]}-8{_PROCESS_UUID[17:20]}"
_REQUEST_NUMBERS: Final = count(10**11)
"""Numbers of 12 decimal digits, which are hexadecimal ones, too. A format with zeros in front would cost more."""


def _new_audit_id() -> str:
    """Create a unique UUID: 68 random bits of this process, and the number of the request."""
    return f"{_AUDIT_ID_PREFIX}-{next(_REQUEST_NUMBERS)}"


@dataclass(slots=True)
class Exchange:
    """State of one request and its response."""

    head: RequestHead
    """Head of the request without the parts that named the Connector. After the decision, as the target gets it."""
    source_ip: str
    connector_request: ConnectorRequest | None = None
    """Connector and token; None if the message is not a request or names no Connector."""
    path_prefix: bytes | None = None
    """Prefix of the client's path that named the Connector at direct access, empty by alias. None in a tunnel."""
    identity: Identity | None = None
    """Caller who opened the tunnel, if authenticated."""
    authorization: AuthorizationResult | None = None
    """Result of the access decision; None before it."""
    is_connection_reused: bool = False
    """The connection to the target served another request before."""
    is_retry: bool = False
    """The request was sent before, on a reused connection that the target closed without a response."""
    unsent_body: list[bytes] = field(default_factory=list)
    """Body that arrived before the request was sent. It is at most one read, because the client is not read then."""
    delete_options: bytes | None = None
    """Body of a deletion, for a dry run. None if there is none."""
    awaits_body: bool = False
    """The request is sent when its body has been read."""
    is_request_complete: bool = False
    """The request has been read completely."""
    bytes_in: int = 0
    """Bytes sent to the target after the head, with the framing of chunks."""
    bytes_out: int = 0
    """Bytes sent to the client, with heads and framing."""
    status: int = 0
    cause: str = ""
    refusal_message: str = ""
    """Message of the refusal."""
    long_running_kind: str = ""
    """Kind of a long-running response (watch, log, exec, …); empty for others."""
    audit_id: str = ""
    """Audit-ID of the request in the target's audit log; empty before it is sent."""
    is_recorded: bool = False
    """The last audit record has been written."""
    started_at: float = field(default_factory=time.perf_counter)
    _info: RequestInfo | None = None
    _row: SessionRow | None = None
    """Row with the parts that do not change."""

    @property
    def caller(self) -> Identity | None:
        """The authenticated caller, or None."""
        return (self.authorization.identity if self.authorization is not None else None) or self.identity

    @property
    def user(self) -> str:
        """User name of the caller, or an empty string."""
        return self.caller.user if self.caller is not None else ""

    @property
    def token(self) -> str:
        """Token with which the request is authorized, or an empty string."""
        request = self.connector_request
        return request.token if request is not None and isinstance(request.token, str) else ""

    @property
    def live_access(self) -> LiveAccess | None:
        """Access with which the request was authorized; None before that and after its end."""
        authorization = self.authorization
        if authorization is None or self.is_recorded or not isinstance(authorization.decision, ALLOWING):
            return None
        decision, head = authorization.decision, self.head
        prefix = decision.target.address.prefix
        return LiveAccess(
            decision.target,
            self.token,
            decision.grant,
            lambda: parse_request_attributes(head.method, head.target, head.headers, prefix),
            decision.access_grant,
        )

    def session_row(self, *, commands: bool) -> SessionRow | None:
        """Return the row of the request while the target has it, with the command of an exec if `commands`."""
        if not self.audit_id or self.is_recorded:
            return None
        row = self._row = self._row or self._create_row(commands=commands)
        kind = session_kind(self.long_running_kind)
        return row and replace(row, kind=kind, bytes_in=self.bytes_in, bytes_out=self.bytes_out)

    def _create_row(self, *, commands: bool) -> SessionRow | None:
        key = self.connector_request.key if self.connector_request is not None else None
        decision = self.authorization.decision if self.authorization is not None else None
        if key is None or not isinstance(decision, ALLOWING):
            return None
        info = self.request_info()
        words = command_words(self.head.target.decode("ascii"), info) if commands else ()
        return SessionRow(
            id=self.audit_id,
            since=time.time() - (time.perf_counter() - self.started_at),
            kind="",
            caller=shorten(self.user),
            connector=key,
            source_ip=self.source_ip,
            verb=shorten(info.verb),
            resource=shorten(f"{info.resource}/{info.subresource}" if info.subresource else info.resource or info.path),
            namespace=shorten(info.namespace),
            name=shorten(info.name),
            command=shorten(shlex.join(words)),
            role=shorten(decision.role),
            access_request=shorten(str(decision.access_grant.request)) if decision.access_grant is not None else "",
        )

    def append_body(self, message: MessageEvent, out: list[bytes]) -> None:
        """Append a piece of the body to `out`, framed for the target."""
        if isinstance(message, EndOfMessage):
            self.is_request_complete = True
            if self.head.body is BodyEnd.LAST_CHUNK:
                # Trailers may be dropped (RFC 9110 section 6.5). No Kubernetes client sends any.
                out.append(render_last_chunk([]))
        elif isinstance(message, bytes):
            if self.head.method == b"DELETE":
                self.delete_options = ((self.delete_options or b"") + message)[: MAX_DELETE_OPTIONS + 1]
            out.append(render_chunk(message) if self.head.body is BodyEnd.LAST_CHUNK else message)

    def forward(
        self, decision: Inject | Forward, *, max_head: int, must_close: bool, forwarded_for: bool
    ) -> tuple[Response, bytes]:
        """Return the empty response, and the first bytes for the target.

        `must_close` announces to the client that its connection ends with this response. `forwarded_for` adds the
        address of the client in X-Forwarded-For.
        """
        # Only a request without a body can switch to another protocol (RFC 9110 section 7.8).
        upgrade = self.head.headers.upgrade_protocol if not self.head.body else None
        head, rewriter, is_dry_run = self.head, None, False
        if decision.treatment is not Treatment.UNCHANGED:
            if decision.treatment is Treatment.MASK:
                rewriter = mask_rewriter(head, self.request_info())
            elif decision.treatment is Treatment.REVIEW:
                rewriter = review_rewriter(head, decision.target, decision.wider)
            else:
                is_dry_run, head = True, make_dry_run(head, self._take_delete_options())
            if rewriter is not None:
                head = rewriter.rewrite_request(head)
        response = self._create_response(decision, upgrade, max_head=max_head, rewriter=rewriter)
        response.must_close = response.must_close or must_close
        if is_dry_run:
            response.warnings.append(dry_run_warning(decision.target.key))
        self.audit_id = self.audit_id or _new_audit_id()
        request_bytes = inject.render_request_head(
            head, decision, upgrade, self.audit_id, self.source_ip if forwarded_for else ""
        )
        if self.unsent_body:
            request_bytes = b"".join([request_bytes, *self.unsent_body])
            self.unsent_body.clear()
        return response, request_bytes

    @property
    def has_delete_options(self) -> bool:
        """True for a deletion with a body. The target ignores the query of such a request."""
        return self.head.method == b"DELETE" and bool(self.head.body)

    @property
    def is_body_too_large(self) -> bool:
        return self.delete_options is not None and len(self.delete_options) > MAX_DELETE_OPTIONS

    def rewrite_delete_options(self) -> Deny | None:
        """Replace the complete body of a deletion by that of a dry run, or return a refusal."""
        content_types = self.head.headers.values(b"content-type")
        content_type = ", ".join(value.decode("latin-1") for value in content_types)
        try:
            self.delete_options = rewrite_delete_options(content_type, self.delete_options or b"")
        except ParseError as error:
            return denial.unreadable_delete_options(error)
        return None

    def _take_delete_options(self) -> bytes | None:
        """Return the body of a deletion, which is sent instead of the one that was received."""
        if not self.has_delete_options:
            return None
        options = self.delete_options or b""
        self.unsent_body[:], self.bytes_in = [options], len(options)
        return options

    def _create_response(
        self,
        decision: Inject | Forward,
        upgrade: bytes | None,
        *,
        max_head: int,
        rewriter: ResponseRewriter | None,
    ) -> Response:
        return Response(self.head, decision.target, upgrade, max_head, self.path_prefix, rewriter)

    @property
    def can_retry(self) -> bool:
        """True if the complete request is available, is replayable and was sent only once."""
        return not self.is_retry and self.is_request_complete and self.is_replayable

    @property
    def is_replayable(self) -> bool:
        """True if sending the request twice has the same result as sending it once.

        PUT and DELETE are idempotent, too (RFC 9110 section 9.2.2). But the API server responds to the second one with
        409 or 404. An upgrade is not replayable because it may start a command (exec).
        """
        head = self.head
        return head.method in (b"GET", b"HEAD") and not head.body and head.headers.upgrade_protocol is None

    def set_refusal(self, deny: Deny) -> None:
        self.status, self.cause, self.refusal_message = deny.status, deny.cause, deny.message

    def record_response(self, response: Response, recorders: Recorders) -> None:
        """Take the status of the response. A long-running one gets a record now and another one at its end."""
        if response.head is None or self.status:
            return
        self.status = response.head.status
        self.long_running_kind = self._classify_long_running(response)
        if self.long_running_kind:
            self._write_record(recorders, "request")
            response.drop_headers()

    def record_end(self, reason: str, recorders: Recorders) -> None:
        """Write the last record, once. `reason` is why a long-running response ended."""
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
        info = self.request_info()
        if response.progress is Progress.UPGRADED:
            return info.subresource if info.subresource in _LONG_RUNNING_SUBRESOURCES else "upgrade"
        if info.verb == "watch":
            return "watch"
        return "log" if info.subresource == "log" and b"follow=" in self.head.target else ""

    def request_info(self) -> RequestInfo:
        """Return the request as the API server interprets it."""
        if self._info is None:
            decision, prefix = self.authorization.decision if self.authorization is not None else None, ""
            if isinstance(decision, ALLOWING):
                prefix = decision.target.address.prefix
            elif isinstance(decision, Deny) and decision.request_info is not None:
                self._info = decision.request_info
                return self._info
            self._info = parse_request(self.head.method.decode("ascii"), self.head.target.decode("ascii"), prefix)
        return self._info

    def _write_record(self, recorders: Recorders, event: Literal["request", "stream"]) -> None:
        authorization, connector_request = self.authorization, self.connector_request
        decision = authorization.decision if authorization is not None else None
        role, detail, treatment, access_grant = "", "", "", None
        if isinstance(decision, ALLOWING):
            role, access_grant = decision.role, decision.access_grant
            if decision.treatment is not Treatment.UNCHANGED:
                treatment = _TREATMENTS.get(decision.treatment, "")
        elif isinstance(decision, Deny):
            role, detail = decision.role, decision.detail
        # Positional, in the order of the fields. Python would collect keywords in a dictionary for each request.
        record = Record(
            event,
            connector_request.key if connector_request is not None else None,
            self.status,
            self.source_ip,
            time.perf_counter() - self.started_at,
            self.caller,
            self.request_info() if self.head.target else None,
            self.head.target.decode("ascii"),
            self.head.headers.user_agent,
            self.cause,
            detail,
            self.refusal_message,
            self.bytes_in,
            self.bytes_out,
            self.long_running_kind,
            role,
            self.audit_id,
            str(access_grant.request) if access_grant is not None else "",
            access_grant.approved_by if access_grant is not None else (),
            treatment,
        )
        for recorder in recorders:
            recorder(record)
