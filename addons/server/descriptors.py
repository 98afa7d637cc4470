"""File descriptors: as many as the process may have, and no lock-out when they run out."""

import asyncio
import errno
import logging
import os
import resource
import time
from collections.abc import Callable
from typing import Any, Final

from addons.relay.upstream_pool import MAX_IDLE
from connector_store.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

RESERVED: Final = 64
"""For everything but clients and their targets: watches, reviews, files, the admin address."""
PER_CONNECTION: Final = 2
"""Its own, and its target's."""
LOG_INTERVAL: Final = 60.0
"""Seconds between two lines of the log that say that there are none left."""
POLL_INTERVAL: Final = 1.0
"""Seconds between two looks at whether there is one."""
_ACCEPT_ERROR: Final = "socket.accept() out of system resource"
"""What asyncio's event loop says for each connection that it could not take, some hundred times a second."""


def raise_limit() -> int:
    """Take as many as the process may have; returns their number (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def max_idle_upstreams(descriptors: int) -> int:
    """Connections to targets that may be kept for nobody: where descriptors are few, they are for clients."""
    return min(MAX_IDLE, descriptors // 8)


def max_connections(descriptors: int) -> int:
    """Client connections that so many descriptors are enough for."""
    return max(1, (descriptors - RESERVED - max_idle_upstreams(descriptors)) // PER_CONNECTION)


def silence_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Keep asyncio from saying for each client that it has no descriptor; libuv's loop closes the client, and is mute.

    `tell` says it, of either. Everything else is said as before.
    """
    previous_handler = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == _ACCEPT_ERROR:
            return
        if previous_handler is not None:
            previous_handler(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)


async def log_exhaustion(*, now: Callable[[], float] = time.monotonic, interval: float = POLL_INTERVAL) -> None:
    """Say in one line a minute that none is left; for ever."""
    log_limit = TokenBucket(rate=1 / LOG_INTERVAL, burst=1, now=now)
    while True:
        await asyncio.sleep(interval)
        error = _exhaustion_error()
        if error is not None and log_limit.take():
            logger.error("no file descriptor is left for a client: %s", error)


def _exhaustion_error() -> OSError | None:
    """Why the process, or the machine, has none; None where there is one."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error if error.errno in (errno.EMFILE, errno.ENFILE) else None
    return None
