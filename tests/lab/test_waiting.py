"""What a test that waits gets, and what it is told when nothing comes."""

import time

import pytest

from lab.waiting import MAX_INTERVAL, MIN_INTERVAL, sleep_before_retry, wait_until


def test_it_looks_until_the_answer_is_true_and_gives_it() -> None:
    answers = iter(["", None, "here", "later"])
    assert wait_until(lambda: next(answers), "an answer") == "here"
    assert next(answers) == "later"


def test_what_does_not_come_is_named_and_was_looked_for_once() -> None:
    asked: list[None] = []
    with pytest.raises(AssertionError, match="the Connector did not come about within 0 s"):
        wait_until(lambda: asked.append(None), "the Connector", timeout=0)
    assert asked == [None]


def test_what_has_taken_its_time_is_looked_for_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    now = time.monotonic()
    for since in (now, now - 20, now - 20_000):
        sleep_before_retry(since)
    first, later, last = slept
    assert (first, last) == (MIN_INTERVAL, MAX_INTERVAL)
    assert 1 <= later < MAX_INTERVAL
