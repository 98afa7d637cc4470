"""Waits for conditions that send no notification."""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Final

from lab.waiting import attempt

PATIENCE: Final = 120.0
"""Seconds that `until` waits."""


async def stop_accepting(server: asyncio.AbstractServer) -> None:
    """Accept no more connections on `server`.

    asyncio gives an accepted connection to its server in the next iteration. That fails after `server.close()`, and
    leaves the connection open (CPython, `Server._attach`).
    """
    if isinstance(server, asyncio.base_events.Server):
        for sock in server.sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
        await asyncio.sleep(0)
    else:
        server.close()


async def close_server(server: asyncio.Server) -> None:
    """Close `server` and all of its connections, including those in their handshake."""
    await stop_accepting(server)
    server.close()
    if sys.version_info >= (3, 13) and isinstance(server, asyncio.base_events.Server):
        server.abort_clients()
        await server.wait_closed()
    await asyncio.sleep(0)


async def until(condition: Callable[[], object], description: str = "the condition") -> None:
    """Poll `condition` until it is true. Raises AssertionError after `PATIENCE`.

    A condition that raises is polled again, too (`attempt`). The last error is the cause of the AssertionError.
    """
    deadline, pause = time.monotonic() + PATIENCE, 0.001
    while True:
        is_true, failure = attempt(condition)
        if is_true:
            return
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {PATIENCE:.0f} s: {description}") from failure
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.01)
