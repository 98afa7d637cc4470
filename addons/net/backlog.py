"""What waits for peers that do not read, of all connections together: bounded, however many they are.

Back-pressure bounds each of them; their number is their callers'. The more there are, the less is read for each at a
time, and past the budget the one that has taken nothing for the longest time is ended.
"""

import logging
from typing import Final, Protocol

from connector_store.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 128 * 1024 * 1024
"""Bytes that wait in all. TLS and the buffers around it hold about as much again."""
SLOW_READERS: Final = 16
"""Connections that may be behind before less is read for everybody."""
LOG_INTERVAL: Final = 60.0
"""Seconds between two lines of the log that say that connections were ended."""


class BufferedConnection(Protocol):
    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""

    def abort(self) -> None:
        """End the connection now."""


class Backlog:
    """Connections whose peers are behind, the longest ones first."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, slow_readers: int = SLOW_READERS) -> None:
        self._max_bytes = max_bytes
        self._slow_readers = slow_readers
        self._connections: dict[BufferedConnection, int] = {}
        self._log_limit = TokenBucket(rate=1 / LOG_INTERVAL, burst=1)
        self.size = 0
        self.is_congested = False
        """So many are behind that little should be read at a time: asked at each read, so kept."""
        self.abort_count = 0
        """Connections that were ended for the budget."""

    def add(self, connection: BufferedConnection) -> None:
        """Its peer has fallen behind."""
        self.remove(connection)
        self._connections[connection] = connection.unsent_bytes
        self.is_congested = len(self._connections) >= self._slow_readers
        self.size += connection.unsent_bytes
        while self.size > self._max_bytes:
            oldest = next(iter(self._connections))
            self.remove(oldest)
            oldest.abort()
            self.abort_count += 1
            if self._log_limit.take():
                logger.warning("more than %d bytes wait for slow readers; the slowest are ended", self._max_bytes)

    def remove(self, connection: BufferedConnection) -> None:
        """Its peer has taken what there was, or has gone."""
        self.size -= self._connections.pop(connection, 0)
        self.is_congested = len(self._connections) >= self._slow_readers
