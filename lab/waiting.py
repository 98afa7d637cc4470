"""Waiting for what gives no sign when it happens, in a thread that may block."""

import time
from collections.abc import Callable
from typing import Final

TIMEOUT: Final = 60.0
"""Seconds that anything may take on a busy machine; the product's own promises are far below."""
MIN_INTERVAL: Final = 0.05
"""Seconds between two looks, at first."""
MAX_INTERVAL: Final = 2.0
_BACKOFF_DIVISOR: Final = 20
"""Looks cost as much as what is waited for: what has taken its time is looked for after a twentieth of that again."""


def sleep_before_retry(started_at: float, min_interval: float = MIN_INTERVAL) -> None:
    """Sleeps before the next look; `since` is when the first was, in seconds of time.monotonic()."""
    time.sleep(min(MAX_INTERVAL, max(min_interval, (time.monotonic() - started_at) / _BACKOFF_DIVISOR)))


def wait_until[T](poll: Callable[[], T | None], description: str, *, timeout: float = TIMEOUT) -> T:
    """The first answer that is true; AssertionError, which says `what`, after `timeout` seconds."""
    started_at = time.monotonic()
    while True:
        result = poll()
        if result:
            return result
        assert time.monotonic() < started_at + timeout, f"{description} did not come about within {timeout:.0f} s"
        sleep_before_retry(started_at)
