"""Polling for conditions that have no event, in a thread that may block."""

import time
from collections.abc import Callable
from typing import Final

TIMEOUT: Final = 180.0
"""Seconds that a condition may take on a busy machine. The limits of the product itself are much lower."""
MIN_INTERVAL: Final = 0.05
"""Seconds between the first polls."""
MAX_INTERVAL: Final = 2.0
MEASURING_PERIOD: Final = 240.0
"""Seconds after which `fastest` does not begin another measurement."""
_BACKOFF_DIVISOR: Final = 20
"""The pause is this fraction of the time that has passed, so that polling needs little CPU on a busy machine."""


def sleep_before_retry(started_at: float, min_interval: float = MIN_INTERVAL) -> None:
    """Sleep until the next poll. `started_at` is the time.monotonic() of the first one."""
    time.sleep(min(MAX_INTERVAL, max(min_interval, (time.monotonic() - started_at) / _BACKOFF_DIVISOR)))


def attempt[T](poll: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Call `poll`, and return its result and no error, or None and the error that it raised.

    What it asks may be closed, or be without a field, at this moment. An AssertionError of the poll is raised.
    """
    try:
        return poll(), None
    except AssertionError:
        raise
    except Exception as error:
        return None, error


def wait_until[T](poll: Callable[[], T | None], description: str, *, timeout: float = TIMEOUT) -> T:
    """Call `poll` until its result is true, and return it. Raise AssertionError with the description on timeout.

    A poll that raises is repeated, too (`attempt`). The last error is the cause of the AssertionError.
    """
    started_at = time.monotonic()
    while True:
        result, failure = attempt(poll)
        if result:
            return result
        if time.monotonic() >= started_at + timeout:
            raise AssertionError(f"{description} did not come about within {timeout:.0f} s") from failure
        sleep_before_retry(started_at)


def fastest(measure: Callable[[], float], limit: float) -> float:
    """Call `measure` until it returns less than `limit` seconds, for MEASURING_PERIOD at most, and return the least.

    Other work on the machine can only make a measurement worse.
    """
    started_at = time.monotonic()
    seconds = measure()
    while seconds >= limit and time.monotonic() < started_at + MEASURING_PERIOD:
        seconds = min(seconds, measure())
    return seconds
