"""File descriptors: the process limit, its use, and log lines when it is exhausted."""

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
"""Descriptors that are not for clients and targets: watches, reviews, files and the admin address."""
PER_CONNECTION: Final = 2
"""Descriptors of a client connection: its own and that of its target."""
LOG_INTERVAL: Final = 60.0
"""Minimum number of seconds between two log lines about exhaustion."""
POLL_INTERVAL: Final = 1.0
"""Seconds between checks for a free descriptor."""
_ACCEPT_ERROR: Final = "socket.accept() out of system resource"
"""Message of asyncio's event loop for each connection that it cannot accept, some hundred times a second."""


def raise_limit() -> int:
    """Raise the soft limit to the hard limit (getrlimit(2)). Return the number of descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def max_idle_upstreams(descriptors: int) -> int:
    """Return the maximum number of idle connections to targets. With few descriptors, clients get most of them."""
    return min(MAX_IDLE, descriptors // 8)


def max_connections(descriptors: int) -> int:
    """Return the number of client connections that `descriptors` are enough for."""
    return max(1, (descriptors - RESERVED - max_idle_upstreams(descriptors)) // PER_CONNECTION)


def silence_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Suppress asyncio's message for each client without a descriptor. Other messages are not affected.

    libuv's loop closes such a client without a message. `log_exhaustion` logs the problem for both loops.
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
    """Log once a minute that no descriptor is left, until cancelled. `interval` is in seconds."""
    log_limit = TokenBucket(rate=1 / LOG_INTERVAL, burst=1, now=now)
    while True:
        await asyncio.sleep(interval)
        error = _exhaustion_error()
        if error is not None and log_limit.take():
            logger.error("no file descriptor is left for a client: %s", error)


def _exhaustion_error() -> OSError | None:
    """Return the error if the process or the machine has no free descriptor, else None."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error if error.errno in (errno.EMFILE, errno.ENFILE) else None
    return None
