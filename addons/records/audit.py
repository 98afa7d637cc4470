"""Audit log: one line for each CONNECT, request and end of a live connection.

A line contains the caller, the Connector, the request and the result. It contains no body and no header value except
the User-Agent. Of the query string it contains only the names of parameters, and the command of an exec. Lines are
written in batches, so a request does not cost a write. Lines that cannot be written are counted, and a line reports
their number.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from addons.records.audit_text import MAX_MESSAGE, format_text
from addons.records.record import Record
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.printable import printable
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision.redaction import command_parameters, redact_target, redact_tokens
from connector_store.token_bucket import TokenBucket

MAX_PENDING_LINES: Final = 10_000
"""Maximum number of lines that wait for the reader of the output. Further lines are dropped and counted."""
MAX_PENDING_CHARACTERS: Final = 16 * 1024 * 1024
"""Maximum number of characters in these lines."""
UNAUTHENTICATED_RATE: Final = 50.0
UNAUTHENTICATED_BURST: Final = 500.0
"""Lines for unauthenticated clients per second, on average and in a burst, because a refusal costs a client nothing."""
RESERVE: Final = 0.5
"""Fraction of both limits that is reserved for current requests when new ones are refused."""
MAX_TEXT: Final = 2048
"""Maximum number of characters of a user agent in a line, and of a cached user agent or request target."""

CACHE_SIZE: Final = 512
"""Maximum number of encoded callers, requests and texts in each cache. Limits on heads bound each to a few kB."""

LineFormat = Literal["json", "text"]

_encode = json.JSONEncoder(separators=(",", ":")).encode


class AuditLog:
    """Formatter of audit lines, with a buffer that `flush` writes.

    `now` returns Unix seconds. With `commands`, lines contain the command of an exec.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        now: Callable[[], float],
        commands: bool,
        schedule_flush: Callable[[], None],
        line_format: LineFormat = "json",
    ) -> None:
        """`schedule_flush` is called for the first pending line, and must cause a call of `flush` soon."""
        self._write = write
        self._now = now
        self._commands = commands
        self._schedule_flush = schedule_flush
        self._line_format = line_format
        self._pending: list[str] = []
        self._size = 0
        self._unauthenticated_limit = TokenBucket(rate=UNAUTHENTICATED_RATE, burst=UNAUTHENTICATED_BURST, now=now)
        self._omitted_count = 0
        self._reported_drop_count = 0
        self._is_flush_scheduled = False
        self.dropped_count = 0
        """Lines that were dropped because the output was not read in time."""

    @property
    def is_full(self) -> bool:
        """True if so much is pending that new requests must be refused if no line may be lost."""
        return len(self._pending) >= MAX_PENDING_LINES * RESERVE or self._size >= MAX_PENDING_CHARACTERS * RESERVE

    def record(self, record: Record) -> None:
        """Add a line for `record`. Lines for unauthenticated clients are rate-limited."""
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._schedule_flush()
        if record.identity is None and not self._unauthenticated_limit.take():
            self._omitted_count += 1
            return
        if len(self._pending) >= MAX_PENDING_LINES or self._size >= MAX_PENDING_CHARACTERS:
            self.dropped_count += 1
            return
        format_line = format_text if self._line_format == "text" else format_json
        line = format_line(record, now=self._now(), commands=self._commands)
        self._pending.append(line)
        self._size += len(line)

    def flush(self) -> None:
        """Write all pending lines in one piece."""
        self._is_flush_scheduled = False
        omitted_count, self._omitted_count = self._omitted_count, 0
        if omitted_count:
            self._pending.append(
                self._note("omitted", omitted_count, "more refusals of strangers than are written in a second")
            )
        lost_count, self._reported_drop_count = self.dropped_count - self._reported_drop_count, self.dropped_count
        if lost_count:
            self._pending.append(self._note("lost", lost_count, "the audit log was not read in time"))
        if self._pending:
            lines = "\n".join(self._pending) + "\n"
            self._pending.clear()
            self._size = 0
            self._write(lines)

    def _note(self, event: str, lines: int, reason: str) -> str:
        """Return a line about lines that were not written."""
        if self._line_format == "text":
            return f"{lines} lines {event}: {reason}"
        return _encode({"time": _format_time(self._now()), "event": event, "lines": lines, "reason": reason})


def format_json(record: Record, *, now: float, commands: bool) -> str:
    """Return an audit line as JSON, without the newline. Encoded parts that requests have in common are cached."""
    request_members = _request_members if len(record.target) <= MAX_TEXT else _request_members.__wrapped__
    message = _encode_message(record.message) if record.message else '""'
    encode_agent = _encode_agent if len(record.user_agent) <= MAX_TEXT else _encode_agent.__wrapped__
    return (
        f'{{"time":"{_format_time(now)}","event":"{record.event}",'
        f"{_caller_members(record.connector, record.identity, record.source_ip)},"
        f"{request_members(record.info, record.target, commands)},"
        f'"status":{record.status},{_reason_members(record.cause, record.detail)},"message":{message},'
        f'"role":{_encode_text(record.role)},"audit_id":"{record.audit_id}",'
        f"{_allowance_members(record.access_request, record.approved_by, record.treatment)},"
        f'"bytes_in":{record.bytes_in},"bytes_out":{record.bytes_out},'
        f'"duration_ms":{record.duration * 1000:.1f},'
        f'"user_agent":{encode_agent(record.user_agent)}}}'
    )


def _encode_message(message: str) -> str:
    """Encode a sentence. Sentences differ by object, so they are not cached."""
    return _encode(printable(redact_tokens(message)[:MAX_MESSAGE]))


def _format_time(now: float) -> str:
    second = int(now)
    return f"{_format_second(second)}.{int((now - second) * 1000):03}Z"


@lru_cache(maxsize=2)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_encode_text = lru_cache(maxsize=CACHE_SIZE)(_encode)


@lru_cache(maxsize=CACHE_SIZE)
def _reason_members(reason: str, detail: str) -> str:
    return _members(reason=reason, detail=detail)


@lru_cache(maxsize=CACHE_SIZE)
def _allowance_members(access_request: str, approved_by: tuple[str, ...], treatment: str) -> str:
    return _members(access_request=access_request, approved_by=approved_by, treatment=treatment)


@lru_cache(maxsize=CACHE_SIZE)
def _encode_agent(user_agent: str) -> str:
    return _encode(redact_tokens(user_agent)[:MAX_TEXT])


@lru_cache(maxsize=CACHE_SIZE)
def _caller_members(connector: ObjectKey | None, identity: Identity | None, source_ip: str) -> str:
    caller = identity and {
        "user": identity.user,
        "groups": identity.groups,
        "pod": identity.pod,
        "node": identity.node,
        "uid": identity.uid,
    }
    return _members(connector=str(connector) if connector else None, caller=caller, source_ip=source_ip)


@lru_cache(maxsize=CACHE_SIZE)
def _request_members(info: RequestInfo | None, target: str, commands: bool) -> str:
    return _members(
        verb=info.verb if info else "",
        group=info.group if info else "",
        resource=info.resource if info else "",
        subresource=info.subresource if info else "",
        namespace=info.namespace if info else "",
        name=info.name if info else "",
        path=redact_target(target, command_parameters(info) if commands else frozenset()),
    )


def _members(**fields: object) -> str:
    return _encode(fields)[1:-1]
