"""Recent uses and refusals, whose memory is bounded."""

import asyncio
from types import BuiltinMethodType
from typing import Any

import pytest

from addons.records import recent_use
from addons.records.recent_use import DRAIN_INTERVAL, MAX_PENDING, MAX_REFUSALS, MINUTES, RecentUse
from addons.records.record import Record
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Identity
from tests.fakes.clock import FakeClock
from tests.fakes.virtual_time import run_in_virtual_time

KEY = ObjectKey("team-a", "k8s")
BUILD = Identity(user="ci:build")


def record(**values: Any) -> Record:
    fields: dict[str, Any] = {
        "event": "request", "connector": KEY, "status": 200, "source_ip": "::1", "duration": 0.1, "identity": BUILD,
        "info": parse_request("GET", "/api/v1/namespaces/web/pods", ""), "target": "/api/v1/namespaces/web/pods",
    }  # fmt: skip
    return Record(**fields | values)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(600_000.0)


def test_the_uses_of_15_minutes_count(clock: FakeClock) -> None:
    uses = RecentUse(now=clock)
    uses.record(record())
    list(uses.uses())
    clock.now += 10 * 60
    uses.record(record())
    uses.record(record(status=503))
    (use,) = uses.uses()
    assert (use.request_count, use.error_count, use.last_used) == (3, 1, clock.now)
    assert use.last_error == "the target responded with status 503"
    clock.now += 6 * 60
    (use,) = uses.uses()
    assert (use.request_count, use.error_count) == (2, 1)
    clock.now += MINUTES * 60
    assert list(uses.uses()) == []


def test_the_rate_is_that_of_the_last_two_minutes(clock: FakeClock) -> None:
    uses = RecentUse(now=clock)
    for _ in range(60):
        uses.record(record())
    list(uses.uses())
    clock.now += 60
    (use,) = uses.uses()
    assert (use.requests_per_minute, use.errors_per_minute) == (60, 0)


def test_the_clock_can_be_set_back(clock: FakeClock) -> None:
    uses = RecentUse(now=clock)
    uses.record(record())
    list(uses.uses())
    clock.now -= 3600
    uses.record(record())
    assert [use.request_count for use in uses.uses()] == [2]


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        pytest.param({"status": 404}, (1, 0), id="a 404 of the target is not an error"),
        pytest.param({"status": 0, "cause": "the target closed the connection"}, (1, 1), id="no response"),
        pytest.param({"status": 403, "cause": "not_allowed", "message": "no"}, (1, 1), id="a refusal"),
        pytest.param({"event": "stream", "cause": "the client closed the connection"}, (0, 0), id="the end of a watch"),
        pytest.param({"event": "connect"}, (0, 0), id="a CONNECT"),
    ],
)
def test_what_counts(clock: FakeClock, values: dict[str, Any], counts: tuple[int, int]) -> None:
    uses = RecentUse(now=clock)
    uses.record(record(**values))
    assert [(use.request_count, use.error_count) for use in uses.uses()] == [counts]


@pytest.mark.parametrize("cause", ["access", "token", "unavailable"])
def test_a_caller_without_the_right_creates_no_entry(clock: FakeClock, cause: str) -> None:
    uses = RecentUse(now=clock)
    uses.record(record(status=403, cause=cause))
    assert list(uses.uses()) == []
    assert len(uses.refusals()) == 1
    uses.record(record())
    uses.record(record(status=403, cause=cause, message="not any more"))
    assert [use.last_error for use in uses.uses()] == ["not any more"]


def test_the_least_recently_used_entry_is_evicted(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_use, "MAX_USES", 2)
    uses = RecentUse(now=clock)
    for user in ("a", "b", "a", "c"):
        uses.record(record(identity=Identity(user=user)))
    assert sorted(use.caller for use in uses.uses()) == ["a", "c"]


def test_strangers_do_not_evict_the_refusals_of_callers(clock: FakeClock) -> None:
    uses = RecentUse(now=clock)
    uses.record(record(status=403, cause="not_allowed", message="pods is forbidden"))
    for _ in range(1000):
        uses.record(record(identity=None, connector=None, event="connect", status=407, cause="credentials"))
    refusals = uses.refusals()
    assert len(refusals) == MAX_REFUSALS + 1
    assert [refusal.number for refusal in refusals] == sorted((each.number for each in refusals), reverse=True)
    refusal = refusals[-1]
    assert refusal.document() == {
        "number": 1, "time": clock.now, "status": 403, "reason": "not_allowed", "message": "pods is forbidden",
        "caller": "ci:build", "sourceIP": "::1", "connector": "team-a/k8s", "request": "list pods web",
    }  # fmt: skip


def test_texts_of_callers_are_bounded(clock: FakeClock) -> None:
    uses = RecentUse(now=clock)
    uses.record(record())
    long = "x" * 65536
    uses.record(
        record(
            identity=BUILD, status=403, cause="path", message=long, info=None, target=f"/{long}?{long}", user_agent=long
        )
    )
    assert max(len(str(value)) for value in uses.refusals()[0].document().values()) <= 512
    assert len(next(uses.uses()).last_error) <= 512


def test_a_record_is_counted_at_the_next_count_of_the_queue(clock: FakeClock) -> None:
    async def count_records() -> list[float]:
        uses = RecentUse(now=lambda: clock.now + asyncio.get_running_loop().time())
        task = asyncio.ensure_future(uses.run())
        await asyncio.sleep(DRAIN_INTERVAL / 2)
        uses.record(record())
        await asyncio.sleep(60)
        task.cancel()
        return [use.last_used for use in uses.uses()]

    assert run_in_virtual_time(count_records()) == [clock.now + DRAIN_INTERVAL]


def test_the_recorder_costs_no_python_call() -> None:
    assert isinstance(RecentUse().record, BuiltinMethodType)


def test_a_full_queue_loses_nothing(clock: FakeClock) -> None:
    uses = RecentUse(now=clock)
    for _ in range(2):
        for _ in range(MAX_PENDING):
            uses.record(record())
        list(uses.uses())
    assert [use.request_count for use in uses.uses()] == [2 * MAX_PENDING]


def test_the_queue_keeps_the_newest_records_without_a_count(clock: FakeClock) -> None:
    uses = RecentUse(now=clock)
    for number in range(100_000):
        uses.record(record(status=403, cause="not_allowed", message=f"refusal {number}"))
    assert [refusal.message for refusal in uses.refusals()][::99] == ["refusal 99999", "refusal 99900"]
    assert [use.request_count for use in uses.uses()] == [MAX_PENDING]
