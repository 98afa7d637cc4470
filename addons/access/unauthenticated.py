"""Limit on connections without an authenticated caller, in total and from one address.

Each of them costs the client nothing, but costs the proxy memory and a file descriptor. At the limit, the proxy refuses
new connections. Connections with an authenticated caller do not count.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from connector_store.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

LOG_INTERVAL: Final = 60.0
"""Minimum number of seconds between two log lines about refused connections."""


class UnauthenticatedLimit:
    """Limits on connections: unauthenticated ones in total, those of one source address, and open ones of any kind."""

    def __init__(
        self,
        *,
        max_unauthenticated: int,
        max_unauthenticated_per_address: int,
        max_open: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_unauthenticated = max_unauthenticated
        self._max_unauthenticated_per_address = max_unauthenticated_per_address
        self._max_open = max_open
        self._count_by_address: dict[str, int] = {}
        self._log_limit = TokenBucket(rate=1 / LOG_INTERVAL, burst=1, now=now)
        self.count = 0
        """Current number of unauthenticated connections."""
        self.refusal_count = 0
        """Connections that were refused because of a limit."""

    def acquire(self, address: str, *, open_count: int) -> Callable[[], None] | None:
        """Count a new connection from `address` while `open_count` connections are open.

        Return the function that ends the counting, or None if the connection is refused. Further calls have no effect.
        """

        reason = self._refusal_reason(address, open_count)
        if reason:
            self.refusal_count += 1
            if self._log_limit.take():
                logger.warning("connections are refused: %s (%d so far)", reason, self.refusal_count)
            return None
        self.count += 1
        self._count_by_address[address] = self._count_by_address.get(address, 0) + 1
        addresses = [address]

        def release() -> None:
            if addresses:
                self._release(addresses.pop())

        return release

    def _refusal_reason(self, address: str, open_count: int) -> str:
        if open_count >= self._max_open:
            return f"{open_count} are open, as many as there are descriptors for"
        if self.count >= self._max_unauthenticated:
            return f"the callers of {self.count} are not known yet"
        if self._count_by_address.get(address, 0) >= self._max_unauthenticated_per_address:
            return f"the callers of {self._max_unauthenticated_per_address} from {address} are not known yet"
        return ""

    def _release(self, address: str) -> None:
        self.count -= 1
        self._count_by_address[address] -= 1
        if not self._count_by_address[address]:
            del self._count_by_address[address]
