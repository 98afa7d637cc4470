"""Waiting for something that gives no sign when it happens."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
"""Seconds."""


async def until(condition: Callable[[], object], what: str = "what had to happen") -> None:
    """Looks again and again, and gives the loop its turns meanwhile; AssertionError after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        await asyncio.sleep(0.01)
