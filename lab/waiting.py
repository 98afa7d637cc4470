"""Waiting for what gives no sign when it happens, in a thread that may block."""

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
"""Seconds that anything may take on a busy machine; the product's own promises are far below."""
LEAST: Final = 0.05
"""Seconds between two looks, at first."""
MOST: Final = 2.0
_SHARE: Final = 20
"""Looks cost as much as what is waited for: what has taken its time is looked for after a twentieth of that again."""


def pause(since: float, least: float = LEAST) -> None:
    """Sleeps before the next look; `since` is when the first was, in seconds of time.monotonic()."""
    time.sleep(min(MOST, max(least, (time.monotonic() - since) / _SHARE)))


def until[T](ask: Callable[[], T | None], what: str, *, timeout: float = PATIENCE) -> T:
    """The first answer that is true; AssertionError, which says `what`, after `timeout` seconds."""
    since = time.monotonic()
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < since + timeout, f"{what} did not come about within {timeout:.0f} s"
        pause(since)
