"""Limit on connections without an authenticated caller, in total and from one address.

Each of them costs the client nothing, but costs the proxy memory and a file descriptor. At the limit, new connections
wait unread for their turn, because many callers can share one address. The addresses take turns. If too many wait, the
address with the most loses its newest one, so strangers at other addresses cannot use up the queue. Connections with an
authenticated caller do not count.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from connector_store.token_bucket import TokenBucket
from connector_store.waiting_places import WaitingPlaces

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 2_000
"""Maximum number of connections that wait unread. Each costs about 5 kB and a file descriptor."""
LOG_INTERVAL: Final = 60.0
"""Minimum number of seconds between two log lines about refused connections."""


Release = Callable[[], None]
"""Function that ends the counting of a connection. Further calls have no effect."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Connection that waits for its turn."""

    address: str
    on_admitted: Callable[[Release], None]
    on_refused: Callable[[], None]
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class UnauthenticatedLimit:
    """Limits on connections: unauthenticated ones in total, those of one source address, and open ones of any kind.

    A connection waits for at most `max_wait` seconds.
    """

    def __init__(
        self,
        *,
        max_unauthenticated: int,
        max_unauthenticated_per_address: int,
        max_open: int,
        max_wait: float,
        max_waiting: int = MAX_WAITING,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_unauthenticated = max_unauthenticated
        self._max_unauthenticated_per_address = max_unauthenticated_per_address
        self._max_open = max_open
        self._max_wait = max_wait
        self._waiting = WaitingPlaces[_Waiter](max_waiting, on_evicted=self._on_evicted)
        self._count_by_address: dict[str, int] = {}
        self._is_admitting = False
        self._log_limit = TokenBucket(rate=1 / LOG_INTERVAL, burst=1, now=now)
        self.count = 0
        """Current number of unauthenticated connections, without those that wait."""
        self.refusal_count = 0
        """Connections that were refused because of a limit."""

    @property
    def waiting_count(self) -> int:
        """Current number of connections that wait."""
        return self._waiting.count

    def admit(
        self, address: str, on_admitted: Callable[[Release], None], on_refused: Callable[[], None], *, open_count: int
    ) -> None:
        """Call one of the functions for a new connection from `address`, now or after a wait.

        `open_count` is the number of open connections, without those that wait.
        """
        waiter = _Waiter(address, on_admitted, on_refused)
        if open_count + self._waiting.count >= self._max_open:
            self._refuse(waiter, f"{open_count} are open, as many as there are descriptors for")
        elif not self._is_full(address):
            self._admit(waiter)
        elif self._waiting.add(address, waiter):
            self._start_timer(waiter)
        else:
            self._refuse(
                waiter, f"{self._count_by_address.get(address, 0)} unauthenticated ones from {address} are open"
            )

    def refuse_waiting(self) -> None:
        """Refuse all connections that wait."""
        for waiter in self._waiting:
            self._give_up(waiter, "the proxy is draining")

    def _is_full(self, address: str) -> bool:
        return (
            self.count >= self._max_unauthenticated
            or self._count_by_address.get(address, 0) >= self._max_unauthenticated_per_address
        )

    def _start_timer(self, waiter: _Waiter) -> None:
        reason = f"{waiter.address} has waited for {self._max_wait:g} s"
        waiter.timer = asyncio.get_running_loop().call_later(self._max_wait, self._give_up, waiter, reason)

    def _on_evicted(self, waiter: _Waiter, count: int) -> None:
        self._give_up(waiter, f"{count} from {waiter.address} wait already")

    def _give_up(self, waiter: _Waiter, reason: str) -> None:
        self._remove(waiter)
        self._refuse(waiter, reason)

    def _remove(self, waiter: _Waiter) -> None:
        self._waiting.remove(waiter.address, waiter)
        if waiter.timer is not None:
            waiter.timer.cancel()

    def _refuse(self, waiter: _Waiter, reason: str) -> None:
        self.refusal_count += 1
        if self._log_limit.take():
            logger.warning("connections are refused: %s (%d so far)", reason, self.refusal_count)
        waiter.on_refused()

    def _admit(self, waiter: _Waiter) -> None:
        address = waiter.address
        self.count += 1
        self._count_by_address[address] = self._count_by_address.get(address, 0) + 1
        addresses = [address]

        def release() -> None:
            if addresses:
                self._release(addresses.pop())

        waiter.on_admitted(release)

    def _release(self, address: str) -> None:
        self.count -= 1
        self._count_by_address[address] -= 1
        if not self._count_by_address[address]:
            del self._count_by_address[address]
        if self._is_admitting or not self._waiting.count:
            # If connections are being admitted, the loop below continues.
            return
        self._is_admitting = True
        try:
            while (waiter := self._next_waiter()) is not None:
                self._remove(waiter)
                self._waiting.end_turn(waiter.address)
                self._admit(waiter)
        finally:
            self._is_admitting = False

    def _next_waiter(self) -> _Waiter | None:
        return next((waiter for address, waiter in self._waiting.first_of_each() if not self._is_full(address)), None)
