"""The end of a proxy that others still use: not ready, a while to be found out, no new connections, streams end.

Kubernetes takes an endpoint out while it sends SIGTERM; who has not heard of it yet connects for some seconds more.
"""

import asyncio
import logging
import time
from typing import Final, Protocol

from mitmproxy.master import Master

from addons.net.sockets import FAREWELL
from connector_store.domain.config.settings import Settings

logger = logging.getLogger(__name__)

ACCEPT_MORE: Final = 5.0
"""Seconds in a cluster in which new connections are still served."""
LOOK: Final = 0.1
"""Seconds between looks at what is still open."""
PIECE: Final = 1.0
"""Seconds in which what is in the middle of an event or a frame should come to its end."""
REASON: Final = "the proxy ends"
"""In the audit log, and what kubectl says of an exec."""


class OpenConnections(Protocol):
    """Those of the clients."""

    @property
    def open(self) -> int: ...

    def retire(self) -> None:
        """End each as soon as it has no request, and tell its client with the last answer."""

    def take_leave(self, reason: str) -> None:
        """End each in an orderly way, but for what is in the middle of a piece."""

    def cut(self, reason: str) -> None:
        """End what is in a tunnel now, and say why in the audit log."""


class Draining:
    """`master` is mitmproxy's."""

    def __init__(self, connections: OpenConnections, master: Master) -> None:
        self.begun = False
        self._connections = connections
        self._master = master

    async def run(self, settings: Settings) -> None:
        """Returns after it has told mitmproxy to end; `settings.drain` seconds at most for what runs."""
        self.begun = True
        if settings.in_cluster:
            await asyncio.sleep(ACCEPT_MORE)
        await self._master.addons.get("proxyserver").servers.update([])
        self._connections.retire()
        if not await self._ended(settings.drain):
            logger.warning("%d connections did not end within %g s", self._connections.open, settings.drain)
            await self._take_leave()
        self._master.shutdown()

    async def _take_leave(self) -> None:
        end = time.monotonic() + PIECE
        while self._connections.open and time.monotonic() < end:
            self._connections.take_leave(REASON)
            await asyncio.sleep(LOOK)
        self._connections.cut(REASON)
        await self._ended(FAREWELL.cut)

    async def _ended(self, seconds: float) -> bool:
        """True once no connection is open, False after `seconds`."""
        end = time.monotonic() + seconds
        while self._connections.open and time.monotonic() < end:  # noqa: ASYNC110 - mitmproxy owns the connections
            await asyncio.sleep(LOOK)
        return not self._connections.open
