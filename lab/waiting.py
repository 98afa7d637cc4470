"""Waiting for what gives no sign when it happens, in a thread that may block."""

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
"""Seconds that anything may take on a busy machine; the product's own promises are far below."""
_PAUSE: Final = 0.05
"""Seconds between two looks."""


def until[T](ask: Callable[[], T | None], what: str, *, timeout: float = PATIENCE) -> T:
    """The first answer that is true; AssertionError, which says `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout:.0f} s"
        time.sleep(_PAUSE)
