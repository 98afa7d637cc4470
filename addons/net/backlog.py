"""Limit on the unsent bytes of all connections together.

Back-pressure bounds the bytes of each connection, but callers decide on the number of connections. If many peers read
slowly, each read is smaller. Above the limit, the connection that has been behind for the longest time is aborted.
"""

import logging
from typing import Final, Protocol

from connector_store.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 128 * 1024 * 1024
"""Maximum number of unsent bytes in all connections. TLS and its buffers use about as much memory again."""
SLOW_READERS: Final = 16
"""Number of connections with unsent bytes from which all connections read less at a time."""
LOG_INTERVAL: Final = 60.0
"""Minimum number of seconds between two log lines about aborted connections."""


class BufferedConnection(Protocol):
    """A connection with a write buffer."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not accepted yet."""

    def abort(self) -> None:
        """Close the connection now and discard its unsent bytes."""


class Backlog:
    """Connections with unsent bytes, ordered by the time at which they fell behind."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, slow_readers: int = SLOW_READERS) -> None:
        self._max_bytes = max_bytes
        self._slow_readers = slow_readers
        self._connections: dict[BufferedConnection, int] = {}
        self._log_limit = TokenBucket(rate=1 / LOG_INTERVAL, burst=1)
        self.size = 0
        """Unsent bytes of all connections."""
        self.is_congested = False
        """Many connections are behind, so reads must be small. An attribute, because each read checks it."""
        self.abort_count = 0
        """Connections that were aborted because of `max_bytes`."""

    def add(self, connection: BufferedConnection) -> None:
        """Add `connection`, or move it to the end if it is there already."""
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
                logger.warning(
                    "more than %d bytes wait for slow readers; closing the slowest connections", self._max_bytes
                )

    def remove(self, connection: BufferedConnection) -> None:
        """Remove `connection`, because it has no unsent bytes any more or is closed."""
        self.size -= self._connections.pop(connection, 0)
        self.is_congested = len(self._connections) >= self._slow_readers
