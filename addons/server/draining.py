"""Draining after SIGTERM: the proxy is not ready, accepts connections for a while, stops, and closes live connections.

Kubernetes removes an endpoint while it sends SIGTERM. Clients that have not seen the removal yet connect for some more
seconds.
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
"""Seconds for which a proxy in a cluster still accepts connections."""
POLL_INTERVAL: Final = 0.1
"""Seconds between checks for open connections."""
SHUT_DOWN_SECONDS: Final = 1.0
"""Seconds for live connections in the middle of an event or frame to complete it."""
REASON: Final = "the proxy ends"
"""Cause in the audit log, and in kubectl's message about an exec."""


class OpenConnections(Protocol):
    """Client connections."""

    @property
    def open_count(self) -> int:
        """Number of open client connections."""

    def drain(self) -> None:
        """Close each connection as soon as it has no request, and announce that in the last response."""

    def shut_down(self, reason: str) -> None:
        """Close each connection that is not in the middle of an event or frame, as its protocol requires."""

    def close_live(self, reason: str) -> None:
        """Close all live connections now, and write `reason` to the audit log."""


class Draining:
    """Drain of the proxy. `master` is mitmproxy's."""

    def __init__(self, connections: OpenConnections, master: Master) -> None:
        self.has_begun = False
        self._connections = connections
        self._master = master

    async def run(self, settings: Settings) -> None:
        """Drain, then shut mitmproxy down. Current requests have at most `settings.drain` seconds."""
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
        """Wait until no connection is open. Return False if some are still open after `seconds`."""
        deadline = time.monotonic() + seconds
        while self._connections.open_count and time.monotonic() < deadline:  # noqa: ASYNC110 - mitmproxy owns the connections
            await asyncio.sleep(POLL_INTERVAL)
        return not self._connections.open_count
