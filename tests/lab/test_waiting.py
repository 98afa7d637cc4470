"""Polling: the result, the error on timeout, and the pauses."""

from types import SimpleNamespace

import pytest

from lab import waiting
from lab.waiting import MAX_INTERVAL, MEASURING_PERIOD, MIN_INTERVAL, fastest, sleep_before_retry, wait_until


def test_the_first_true_result_is_returned() -> None:
    results = iter(["", None, "here", "later"])
    assert wait_until(lambda: next(results), "a result") == "here"
    assert next(results) == "later"


def test_the_error_on_timeout_has_the_description() -> None:
    polls: list[None] = []
    with pytest.raises(AssertionError, match="the Connector did not come about within 0 s"):
        wait_until(lambda: polls.append(None), "the Connector", timeout=0)
    assert polls == [None]


def test_a_poll_that_raises_is_repeated() -> None:
    results = iter([ConnectionResetError, KeyError, None])

    def poll() -> bool:
        error = next(results)
        if error:
            raise error
        return True

    assert wait_until(poll, "an answer") is True


def test_the_error_on_timeout_has_the_last_error_as_its_cause() -> None:
    def poll() -> bool:
        raise ConnectionResetError("closed by the proxy")

    with pytest.raises(AssertionError, match="an answer did not come about") as caught:
        wait_until(poll, "an answer", timeout=0)
    assert str(caught.value.__cause__) == "closed by the proxy"


def test_an_assertion_of_a_poll_fails_at_once() -> None:
    results = iter([False, True])

    def poll() -> bool:
        assert next(results), "the poll's own assertion"
        return True

    with pytest.raises(AssertionError, match="the poll's own assertion"):
        wait_until(poll, "an answer")


def test_the_pauses_grow_with_the_time_that_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    # Of this module alone: a thread of an earlier test may sleep, too.
    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=pauses.append, monotonic=lambda: 20_000.0))
    for started_at in (20_000.0, 19_980.0, 0.0):
        sleep_before_retry(started_at)
    assert pauses == [MIN_INTERVAL, 1.0, MAX_INTERVAL]


@pytest.mark.parametrize(
    ("rounds", "least", "count"),
    [
        pytest.param([0.5, 0.1], 0.5, 1, id="the first is fast enough"),
        pytest.param([3.0, 0.5, 0.1], 0.5, 2, id="the second is"),
        pytest.param([3.0, MEASURING_PERIOD, 2.0, 1.5], 3.0, 2, id="none is, within the period"),
    ],
)
def test_a_measurement_is_repeated_until_it_is_fast_enough(
    monkeypatch: pytest.MonkeyPatch, rounds: list[float], least: float, count: int
) -> None:
    remaining, clock = iter(rounds), [0.0]
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def measure() -> float:
        seconds = next(remaining)
        clock[0] += seconds
        return seconds

    assert fastest(measure, 1.0) == least
    assert len(list(remaining)) == len(rounds) - count
