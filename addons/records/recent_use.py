"""Recent use of each Connector by each caller, and recent refusals. A recorder, whose memory is bounded.

A request only appends its record to a queue. `run` and each read count the queue, so times are those of that moment.

Strangers have their own list of refusals, so that they cannot evict those of callers. A caller who may not use a
Connector creates no entry for it.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final, get_args

from addons.records.audit_text import describe_request
from addons.records.record import Record
from addons.records.session_row import shorten
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.denial import Cause
from connector_store.domain.decision.redaction import redact_target

MINUTES: Final = 15
"""Minutes for which a use counts."""
MAX_USES: Final = 10_000
"""Maximum number of pairs of a Connector and a caller. The least recently used one is evicted first."""
MAX_REFUSALS: Final = 100
"""Maximum number of refusals of callers, and of strangers."""
DRAIN_INTERVAL: Final = 0.25
"""Seconds between two counts of the queue. A time is late by at most this."""
MAX_PENDING: Final = 4096
"""Maximum number of records in the queue: 16,000 a second, several times what one process can serve.

Without a count, the oldest records are lost. The queue is what keeps request targets in memory, for DRAIN_INTERVAL.
"""
_CAUSES: Final = frozenset(get_args(Cause))
_NONE: Final[frozenset[str]] = frozenset()
_WITHOUT_RIGHT: Final = frozenset({"access", "token", "credentials", "unavailable", "not_synced"})
"""Causes of refusals that precede the proof that the caller may use the Connector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Use of one Connector by one caller in the last MINUTES minutes. Times are in Unix seconds."""

    connector: ObjectKey
    caller: str
    last_used: float
    request_count: int
    error_count: int
    requests_per_minute: float
    errors_per_minute: float
    """Averages of the current minute and of the one before it."""
    last_error: str

    def document(self) -> dict[str, object]:
        return {
            "caller": self.caller,
            "lastUsed": round(self.last_used, 3),
            "requests": self.request_count,
            "errors": self.error_count,
            "lastError": self.last_error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Refusal of a CONNECT or request. `caller` is empty if the client is not authenticated."""

    number: int
    time: float
    status: int
    reason: str
    message: str
    caller: str
    source_ip: str
    connector: str
    request: str

    def document(self) -> dict[str, object]:
        return {
            "number": self.number,
            "time": round(self.time, 3),
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "caller": self.caller,
            "sourceIP": self.source_ip,
            "connector": self.connector,
            "request": self.request,
        }


@dataclass(slots=True)
class _Counts:
    """Counts of one Connector and caller, by minute. The newest minute is at index 0."""

    minute: int
    requests: list[int] = field(default_factory=lambda: [0] * MINUTES)
    errors: list[int] = field(default_factory=lambda: [0] * MINUTES)
    last_used: float = 0.0
    last_error: str = ""

    def advance(self, minute: int) -> None:
        """Make `minute` the newest one, and drop those that are too old."""
        passed = min(max(minute - self.minute, 0), MINUTES)
        if passed:
            self.requests = [0] * passed + self.requests[:-passed]
            self.errors = [0] * passed + self.errors[:-passed]
        self.minute = minute

    def add_error(self, record: Record) -> None:
        self.errors[0] += 1
        text = record.message or record.cause or f"the target responded with status {record.status}"
        self.last_error = shorten(text)


class RecentUse:
    """Recorder of the uses and refusals of the last minutes. `now` returns Unix seconds."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._counts: OrderedDict[tuple[ObjectKey, str], _Counts] = OrderedDict()
        self._refusals: deque[Refusal] = deque(maxlen=MAX_REFUSALS)
        self._stranger_refusals: deque[Refusal] = deque(maxlen=MAX_REFUSALS)
        self._numbers = count(1)
        self._pending: deque[Record] = deque(maxlen=MAX_PENDING)
        self.record: Final[Callable[[Record], None]] = self._pending.append
        """Recorder. It is a method in C, because each CONNECT and request calls it."""

    async def run(self) -> None:
        """Count the queue until cancelled."""
        while True:
            await asyncio.sleep(DRAIN_INTERVAL)
            self._drain()

    def _drain(self) -> None:
        """Count the records of the queue, the oldest first, and empty it. A record of a success costs no call."""
        now = self._now()
        minute = int(now // 60)
        while self._pending:
            record = self._pending.popleft()
            is_refusal = record.cause in _CAUSES and record.event != "stream"
            if record.identity is not None and record.connector is not None:
                key = record.connector, record.identity.user
                counts = self._counts.get(key)
                if counts is None and record.cause not in _WITHOUT_RIGHT:
                    counts = self._add_counts(key, minute)
                if counts is not None:
                    self._counts.move_to_end(key)
                    if minute != counts.minute:
                        counts.advance(minute)
                    counts.last_used = now
                    if record.event == "request":
                        counts.requests[0] += 1
                    if is_refusal or record.status >= 500 or (record.status == 0 and record.event == "request"):
                        counts.add_error(record)
            if is_refusal:
                refusals = self._refusals if record.identity is not None else self._stranger_refusals
                refusals.append(self._refusal(record, now))

    def uses(self) -> Iterator[Use]:
        """Yield the uses of the last minutes. Drop the older ones. Requests may change them between two items."""
        self._drain()
        now = self._now()
        for key in tuple(self._counts):
            counts = self._counts.get(key)
            if counts is None:
                continue
            if counts.last_used <= now - MINUTES * 60:
                del self._counts[key]
                continue
            counts.advance(int(now // 60))
            seconds = 60 + now % 60
            yield Use(
                connector=key[0],
                caller=shorten(key[1]),
                last_used=counts.last_used,
                request_count=sum(counts.requests),
                error_count=sum(counts.errors),
                requests_per_minute=sum(counts.requests[:2]) * 60 / seconds,
                errors_per_minute=sum(counts.errors[:2]) * 60 / seconds,
                last_error=counts.last_error,
            )

    def refusals(self) -> list[Refusal]:
        """Return the last refusals, the newest first."""
        self._drain()
        refusals = [*self._refusals, *self._stranger_refusals]
        return sorted(refusals, key=lambda refusal: refusal.number, reverse=True)

    def _add_counts(self, key: tuple[ObjectKey, str], minute: int) -> _Counts:
        if len(self._counts) >= MAX_USES:
            self._counts.popitem(last=False)
        counts = self._counts[key] = _Counts(minute)
        return counts

    def _refusal(self, record: Record, now: float) -> Refusal:
        info = record.info
        request = describe_request(info) if info is not None and info.resource else redact_target(record.target, _NONE)
        return Refusal(
            number=next(self._numbers),
            time=now,
            status=record.status,
            reason=record.cause,
            message=shorten(record.message),
            caller=shorten(record.identity.user) if record.identity is not None else "",
            source_ip=record.source_ip,
            connector=shorten(str(record.connector or "")),
            request=shorten(f"{record.event} {request}".strip() if record.event == "connect" else request),
        )
