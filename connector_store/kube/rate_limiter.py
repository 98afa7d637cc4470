"""A number of things that may be done at once, and a rate at which it comes back (a token bucket).

>>> budget = Budget(1.0, 2)
>>> [budget.take(0.0), budget.take(0.0), budget.take(0.5), budget.take(1.0)]
[True, True, False, True]
"""

from collections import OrderedDict
from typing import Final

MAX_SOURCES: Final = 10_000
"""Sources that are told apart; the one not heard of for the longest time is forgotten first."""


class RateLimiter:
    """Times are the caller's, in seconds."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._refilled_at = 0.0

    def take(self, now: float) -> bool:
        """One less, if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._refilled_at) * self._rate)
        self._refilled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def refund(self) -> None:
        """It was not what the budget is for."""
        self._tokens = min(self._burst, self._tokens + 1.0)


class RateLimiterBySource:
    """One for each source, a client's address for instance."""

    def __init__(self, rate: float, burst: int, *, max_sources: int = MAX_SOURCES) -> None:
        self._rate = rate
        self._burst = burst
        self._max_sources = max_sources
        self._limiters: OrderedDict[str, RateLimiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._limiters)

    def take(self, source: str, now: float) -> bool:
        """One less of that source's, if there is one."""
        limiter = self._limiters.get(source)
        if limiter is None:
            limiter = self._limiters[source] = RateLimiter(self._rate, self._burst)
            if len(self._limiters) > self._max_sources:
                self._limiters.popitem(last=False)
        self._limiters.move_to_end(source)
        return limiter.take(now)

    def refund(self, source: str) -> None:
        if (limiter := self._limiters.get(source)) is not None:
            limiter.refund()
