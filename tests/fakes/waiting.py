"""Waiting for something that gives no sign when it happens."""

import asyncio
from collections.abc import Callable

TIMEOUT = 30.0


async def until(condition: Callable[[], object]) -> None:
    """Looks again and again, and gives the loop its turns meanwhile; TimeoutError after 30 seconds."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - a file, or another process, sets no event of ours
            await asyncio.sleep(0.01)
