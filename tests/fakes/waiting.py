"""Waiting for something that gives no sign when it happens."""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
"""Seconds."""


async def close_server(server: asyncio.Server) -> None:
    """Close it with all of its connections, those too whose handshake is still under way."""
    server.close()
    if sys.version_info >= (3, 13) and isinstance(server, asyncio.base_events.Server):
        server.abort_clients()
        await server.wait_closed()
    await asyncio.sleep(0)


async def until(condition: Callable[[], object], description: str = "what had to happen") -> None:
    """Looks again and again, and gives the loop its turns meanwhile; AssertionError after PATIENCE."""
    deadline, pause = time.monotonic() + PATIENCE, 0.001
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {description}"
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.01)
