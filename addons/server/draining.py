"""The end of a proxy that others still use: not ready, a while to be found out, no new connections, streams end.

Kubernetes takes an endpoint out while it sends SIGTERM; who has not heard of it yet connects for some seconds more.
"""

import asyncio
import logging
import time
from typing import Final, Protocol

from mitmproxy.master import Master

from addons.net.sockets import CLOSE_TIMEOUTS
from connector_store.domain.config.settings import Settings

logger = logging.getLogger(__name__)

ACCEPT_SECONDS: Final = 5.0
"""Seconds in a cluster in which new connections are still served."""
POLL_INTERVAL: Final = 0.1
"""Seconds between looks at what is still open."""
SHUT_DOWN_SECONDS: Final = 1.0
"""Seconds in which what is in the middle of an event or a frame should come to its end."""
REASON: Final = "the proxy ends"
"""In the audit log, and what kubectl says of an exec."""


class OpenConnections(Protocol):
    """Those of the clients."""

    @property
    def open_count(self) -> int: ...

    def drain(self) -> None:
        """End each as soon as it has no request, and tell its client with the last answer."""

    def shut_down(self, reason: str) -> None:
        """End each in an orderly way, but for what is in the middle of a piece."""

    def close_live(self, reason: str) -> None:
        """End what is in a tunnel now, and say why in the audit log."""


class Draining:
    """`master` is mitmproxy's."""

    def __init__(self, connections: OpenConnections, master: Master) -> None:
        self.has_begun = False
        self._connections = connections
        self._master = master

    async def run(self, settings: Settings) -> None:
        """Returns after it has told mitmproxy to end; `settings.drain` seconds at most for what runs."""
        self.has_begun = True
        if settings.in_cluster:
            await asyncio.sleep(ACCEPT_SECONDS)
        await self._master.addons.get("proxyserver").servers.update([])
        self._connections.drain()
        if not await self._wait_until_closed(settings.drain):
            logger.warning("%d connections did not end within %g s", self._connections.open_count, settings.drain)
            await self._shut_down()
        self._master.shutdown()

    async def _shut_down(self) -> None:
        deadline = time.monotonic() + SHUT_DOWN_SECONDS
        while self._connections.open_count and time.monotonic() < deadline:
            self._connections.shut_down(REASON)
            await asyncio.sleep(POLL_INTERVAL)
        self._connections.close_live(REASON)
        await self._wait_until_closed(CLOSE_TIMEOUTS.flush)

    async def _wait_until_closed(self, seconds: float) -> bool:
        """True once no connection is open, False after `seconds`."""
        deadline = time.monotonic() + seconds
        while self._connections.open_count and time.monotonic() < deadline:  # noqa: ASYNC110 - mitmproxy owns the connections
            await asyncio.sleep(POLL_INTERVAL)
        return not self._connections.open_count
