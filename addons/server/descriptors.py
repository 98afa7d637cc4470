"""File descriptors: as many as the process may have, and no lock-out when they run out."""

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from typing import Any, Final

from addons.relay.kept import MOST
from connector_store.bucket import TokenBucket

logger = logging.getLogger(__name__)

RESERVED: Final = 64
"""For everything but clients and their targets: watches, reviews, files, the admin address."""
OF_A_CONNECTION: Final = 2
"""Its own, and its target's."""
TOLD_EVERY: Final = 60.0
"""Seconds between two lines of the log that say that there are none left."""
_ACCEPT: Final = "socket.accept() out of system resource"
"""What asyncio's event loop says for each connection that it could not take, some hundred times a second."""


def raise_limit() -> int:
    """Take as many as the process may have; returns their number (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def kept(descriptors: int) -> int:
    """Connections to targets that may be kept for nobody: where descriptors are few, they are for clients."""
    return min(MOST, descriptors // 8)


def connections(descriptors: int) -> int:
    """Client connections that so many descriptors are enough for."""
    return max(1, (descriptors - RESERVED - kept(descriptors)) // OF_A_CONNECTION)


def tell_once(loop: asyncio.AbstractEventLoop, *, now: Callable[[], float] = time.monotonic) -> None:
    """Have `loop` say in one line a minute that it has no descriptor for a client, and everything else as before."""
    before = loop.get_exception_handler()
    bucket = TokenBucket(rate=1 / TOLD_EVERY, burst=1, now=now)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != _ACCEPT:
            if before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)
        elif bucket.take():
            logger.error("no file descriptor is left for a client: %s", context.get("exception"))

    loop.set_exception_handler(handle)
