"""How many connections there may be whose caller is not known yet, in all and from one address.

They cost whoever makes them nothing, and the proxy memory and a descriptor each. At the bound new ones are refused;
those whose caller is known are counted no more, and go on.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from connector_store.bucket import TokenBucket

logger = logging.getLogger(__name__)

TOLD_EVERY: Final = 60.0
"""Seconds between two lines of the log that say so."""


class Unauthenticated:
    """`most` bounds all of them, `most_of_one` those of one source address, `most_open` connections of any kind."""

    def __init__(
        self, *, most: int, most_of_one: int, most_open: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._most_open = most_open
        self._addresses: dict[str, int] = {}
        self._tell = TokenBucket(rate=1 / TOLD_EVERY, burst=1, now=now)
        self.count = 0
        """Connections whose caller is not known."""
        self.refused = 0
        """Connections that were refused for these bounds."""

    def admit(self, address: str, *, open_now: int) -> Callable[[], None] | None:
        """Count one more while `open_now` are open; returns what ends counting it, once, or None if it is refused."""
        full = self._full(address, open_now)
        if full:
            self.refused += 1
            if self._tell.take():
                logger.warning("connections are refused: %s (%d so far)", full, self.refused)
            return None
        self.count += 1
        self._addresses[address] = self._addresses.get(address, 0) + 1
        counted = [address]

        def leave() -> None:
            if counted:
                self._leave(counted.pop())

        return leave

    def _full(self, address: str, open_now: int) -> str:
        if open_now >= self._most_open:
            return f"{open_now} are open, as many as there are descriptors for"
        if self.count >= self._most:
            return f"the callers of {self.count} are not known yet"
        if self._addresses.get(address, 0) >= self._most_of_one:
            return f"the callers of {self._most_of_one} from {address} are not known yet"
        return ""

    def _leave(self, address: str) -> None:
        self.count -= 1
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]
