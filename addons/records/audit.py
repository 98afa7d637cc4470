"""One line per CONNECT, request and stream end: who used which Connector for what, and how it ended.

No header values but the User-Agent, no bodies; of the query string only names, but for the command of an exec,
which is what was done. Lines are handed over in batches, so that a request costs no write of its own. None is lost in
silence: whatever was not written is counted, and a line says how much it was.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from addons.records.readable import readable
from addons.records.record import Record
from connector_store.bucket import TokenBucket
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision.loggable import command_parameters, redact_target, redact_tokens

MAX_WAITING: Final = 10_000
"""Lines that wait for whoever reads our output; further ones are lost and counted."""
MAX_WAITING_SIZE: Final = 16 * 1024 * 1024
"""Characters of them."""
STRANGERS_RATE: Final = 50.0
STRANGERS_BURST: Final = 500.0
"""Lines of strangers in a second, in the long run and at once: a refusal costs a stranger nothing."""
RESERVE: Final = 0.5
"""Of both, what is kept for requests that run when new ones are refused."""
MAX_TEXT: Final = 2048
"""Characters of a user agent in a line, and of a user agent or a target that is kept in memory."""

REMEMBERED: Final = 512
"""Callers, targets and texts whose words are kept; each is some kB at most, as heads are bounded."""

Form = Literal["json", "text"]

_encode = json.JSONEncoder(separators=(",", ":")).encode


class AuditLog:
    """Formats lines and keeps them until `flush`.

    `now` gives unix seconds; `commands` says whether an exec's command is written.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        now: Callable[[], float],
        commands: bool,
        wake: Callable[[], None],
        form: Form = "json",
    ) -> None:
        """`wake` is called when the first line waits: it arranges a `flush` soon."""
        self._write = write
        self._now = now
        self._commands = commands
        self._wake = wake
        self._form = form
        self._waiting: list[str] = []
        self._size = 0
        self._strangers = TokenBucket(rate=STRANGERS_RATE, burst=STRANGERS_BURST, now=now)
        self._omitted = 0
        self._told_lost = 0
        self._woken = False
        self.dropped = 0
        """Lines that were lost because nobody read our output in time."""

    @property
    def full(self) -> bool:
        """True if so much waits that nothing new should begin where each line counts."""
        return len(self._waiting) >= MAX_WAITING * RESERVE or self._size >= MAX_WAITING_SIZE * RESERVE

    def record(self, exchange: Record) -> None:
        """Add a line for what ended now; those of strangers come at a bounded rate."""
        if not self._woken:
            self._woken = True
            self._wake()
        if exchange.identity is None and not self._strangers.take():
            self._omitted += 1
            return
        if len(self._waiting) >= MAX_WAITING or self._size >= MAX_WAITING_SIZE:
            self.dropped += 1
            return
        form = readable if self._form == "text" else line
        text = form(exchange, now=self._now(), commands=self._commands)
        self._waiting.append(text)
        self._size += len(text)

    def flush(self) -> None:
        """Write what waits, in one piece."""
        self._woken = False
        omitted, self._omitted = self._omitted, 0
        if omitted:
            self._waiting.append(
                self._note("omitted", omitted, "more refusals of strangers than are written in a second")
            )
        lost, self._told_lost = self.dropped - self._told_lost, self.dropped
        if lost:
            self._waiting.append(self._note("lost", lost, "nobody read the audit log in time"))
        if self._waiting:
            lines = "\n".join(self._waiting) + "\n"
            self._waiting.clear()
            self._size = 0
            self._write(lines)

    def _note(self, event: str, lines: int, reason: str) -> str:
        """A line about lines."""
        if self._form == "text":
            return f"{lines} lines {event}: {reason}"
        return _encode({"time": _time(self._now()), "event": event, "lines": lines, "reason": reason})


def line(exchange: Record, *, now: float, commands: bool) -> str:
    """One audit line as JSON, without its end. What requests have in common is put into words once."""
    what = _what if len(exchange.target) <= MAX_TEXT else _what.__wrapped__
    agent = _agent if len(exchange.user_agent) <= MAX_TEXT else _agent.__wrapped__
    return (
        f'{{"time":"{_time(now)}","event":"{exchange.event}",'
        f"{_who(exchange.connector, exchange.identity, exchange.source_ip)},"
        f"{what(exchange.info, exchange.target, commands)},"
        f'"status":{exchange.status},"reason":{_text(exchange.cause)},'
        f'"role":{_text(exchange.role)},"audit_id":"{exchange.audit_id}",'
        f'"bytes_in":{exchange.bytes_in},"bytes_out":{exchange.bytes_out},'
        f'"duration_ms":{exchange.duration * 1000:.1f},'
        f'"user_agent":{agent(exchange.user_agent)}}}'
    )


def _time(now: float) -> str:
    second = int(now)
    return f"{_second(second)}.{int((now - second) * 1000):03}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_text = lru_cache(maxsize=REMEMBERED)(_encode)


@lru_cache(maxsize=REMEMBERED)
def _agent(user_agent: str) -> str:
    return _encode(redact_tokens(user_agent)[:MAX_TEXT])


@lru_cache(maxsize=REMEMBERED)
def _who(connector: ObjectKey | None, identity: Identity | None, source_ip: str) -> str:
    caller = identity and {
        "user": identity.user,
        "groups": identity.groups,
        "pod": identity.pod,
        "node": identity.node,
        "uid": identity.uid,
    }
    return _members(connector=str(connector) if connector else None, caller=caller, source_ip=source_ip)


@lru_cache(maxsize=REMEMBERED)
def _what(info: RequestInfo | None, target: str, commands: bool) -> str:
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
