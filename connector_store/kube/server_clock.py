"""Time of the API server, read from the `Date` header of its responses and counted by the boot-time clock.

Times of tokens and objects are those of the API server. A node's clock can differ, and can be set. The boot-time clock
cannot be set, and runs while the machine sleeps. A time of the server that this clock counts is right in both cases.

>>> clock = ServerClock(boot_time=lambda: 100.0, now=lambda: 1_000_000.0)
>>> clock.observe("Mon, 12 Jan 1970 13:46:50 GMT", sent_at=100.0)
>>> clock.now(), clock.node_offset
(1000010.5, -10.5)
"""

import logging
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from connector_store.boot_time import boot_time as read_boot_time

logger = logging.getLogger(__name__)

MAX_OFFSET: Final = 30.0
"""Seconds between the node's clock and the API server's. A larger offset is logged."""
_RESOLUTION: Final = 1.0
"""Seconds. A `Date` header has no fraction (RFC 9110 section 5.6.7)."""


class ServerClock:
    """Clock of one API server. Before the first response, it follows the node's clock. `now` is in Unix seconds."""

    def __init__(
        self, *, boot_time: Callable[[], float] = read_boot_time, now: Callable[[], float] = time.time
    ) -> None:
        self._boot_time = boot_time
        self._node_now = now
        self._booted_at: float | None = None
        """Unix time of the API server at 0 of the boot-time clock."""
        self._date: tuple[str, float] = ("", 0.0)
        self._is_offset_logged = False

    def now(self) -> float:
        """Return the API server's time in Unix seconds."""
        return self._node_now() if self._booted_at is None else self._booted_at + self._boot_time()

    @property
    def node_offset(self) -> float:
        """Seconds by which the node's clock is ahead of the API server's. 0 before the first response."""
        return self._node_now() - self.now()

    def observe(self, date: str | None, *, sent_at: float) -> None:
        """Take the `Date` of a response to a request of the boot time `sent_at`. Ignore a missing or invalid one.

        The server's time was in [date, date + 1 s) at some moment between the request and now. The estimate changes
        only if it contradicts that, so a slow response does not make it worse.
        """
        server_time = self._parse(date)
        if server_time is None:
            return
        earliest, latest = server_time - self._boot_time(), server_time + _RESOLUTION - sent_at
        booted_at = (earliest + latest) / 2 if self._booted_at is None else self._booted_at
        self._booted_at = min(max(booted_at, earliest), latest)
        self._log_offset()

    def _parse(self, date: str | None) -> float | None:
        if date != self._date[0]:
            try:
                self._date = (date or "", parsedate_to_datetime(date or "").timestamp())
            except (ValueError, OverflowError):
                return None
        return self._date[1] if date else None

    def _log_offset(self) -> None:
        offset = self.node_offset
        if (abs(offset) > MAX_OFFSET) == self._is_offset_logged:
            return
        self._is_offset_logged = not self._is_offset_logged
        if not self._is_offset_logged:
            logger.info("the clocks of this node and of the API server agree again")
            return
        logger.warning(
            "the clock of this node is %.0f s %s that of the API server; set both by the same time server",
            abs(offset),
            "ahead of" if offset > 0 else "behind",
        )
