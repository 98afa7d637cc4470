"""Rate limiters that can refund, each a token bucket.

>>> limiter = RateLimiter(1.0, 2)
>>> [limiter.take(0.0), limiter.take(0.0), limiter.take(0.5), limiter.take(1.0)]
[True, True, False, True]
"""

from collections import OrderedDict
from typing import Final

MAX_SOURCES: Final = 10_000
"""Maximum number of sources. The least recently used one is evicted first."""


class RateLimiter:
    """Limit of `burst` events at once and `rate` events a second. The caller supplies the time, in seconds."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._refilled_at = 0.0

    def take(self, now: float) -> bool:
        """Take one token. Return False if there is none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._refilled_at) * self._rate)
        self._refilled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def refund(self) -> None:
        """Return a token, for an event that the limit does not concern."""
        self._tokens = min(self._burst, self._tokens + 1.0)


class RateLimiterBySource:
    """One rate limiter for each source, such as a client's address."""

    def __init__(self, rate: float, burst: int, *, max_sources: int = MAX_SOURCES) -> None:
        self._rate = rate
        self._burst = burst
        self._max_sources = max_sources
        self._limiters: OrderedDict[str, RateLimiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._limiters)

    def take(self, source: str, now: float) -> bool:
        """Take one token of that source. Return False if there is none."""
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
