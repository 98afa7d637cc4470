"""Polling: the result, the error on timeout, and the pauses."""

import time

import pytest

from lab.waiting import MAX_INTERVAL, MIN_INTERVAL, sleep_before_retry, wait_until


def test_the_first_true_result_is_returned() -> None:
    results = iter(["", None, "here", "later"])
    assert wait_until(lambda: next(results), "a result") == "here"
    assert next(results) == "later"


def test_the_error_on_timeout_has_the_description() -> None:
    polls: list[None] = []
    with pytest.raises(AssertionError, match="the Connector did not come about within 0 s"):
        wait_until(lambda: polls.append(None), "the Connector", timeout=0)
    assert polls == [None]


def test_the_pauses_grow_with_the_time_that_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    now = time.monotonic()
    for started_at in (now, now - 20, now - 20_000):
        sleep_before_retry(started_at)
    first, later, last = pauses
    assert (first, last) == (MIN_INTERVAL, MAX_INTERVAL)
    assert 1 <= later < MAX_INTERVAL
