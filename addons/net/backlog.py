"""What waits for peers that do not read, of all connections together: bounded, however many they are.

Back-pressure bounds each of them; their number is their callers'. The more there are, the less is read for each at a
time, and past the budget the one that has taken nothing for the longest time is ended.
"""

import logging
from typing import Final, Protocol

from connector_store.bucket import TokenBucket

logger = logging.getLogger(__name__)

BUDGET: Final = 128 * 1024 * 1024
"""Bytes that wait in all. TLS and the buffers around it hold about as much again."""
FEW: Final = 16
"""Connections that may be behind before less is read for everybody."""
TOLD_EVERY: Final = 60.0
"""Seconds between two lines of the log that say that connections were ended."""


class Waiting(Protocol):
    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""

    def abort(self) -> None:
        """End the connection now."""


class Backlog:
    """Connections whose peers are behind, the longest ones first."""

    def __init__(self, *, budget: int = BUDGET, few: int = FEW) -> None:
        self._budget = budget
        self._few = few
        self._held: dict[Waiting, int] = {}
        self._tell = TokenBucket(rate=1 / TOLD_EVERY, burst=1)
        self.bytes = 0
        self.many = False
        """So many are behind that little should be read at a time: asked at each read, so kept."""
        self.ended = 0
        """Connections that were ended for the budget."""

    def add(self, connection: Waiting) -> None:
        """Its peer has fallen behind."""
        self.remove(connection)
        self._held[connection] = connection.unsent
        self.many = len(self._held) >= self._few
        self.bytes += connection.unsent
        while self.bytes > self._budget:
            longest = next(iter(self._held))
            self.remove(longest)
            longest.abort()
            self.ended += 1
            if self._tell.take():
                logger.warning("more than %d bytes wait for slow readers; the slowest are ended", self._budget)

    def remove(self, connection: Waiting) -> None:
        """Its peer has taken what there was, or has gone."""
        self.bytes -= self._held.pop(connection, 0)
        self.many = len(self._held) >= self._few
