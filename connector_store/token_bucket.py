"""Token bucket: allows a burst after an idle time, and a rate in the long run.

>>> clock = iter([0.0, 0.0, 0.0, 0.5, 1.5])
>>> bucket = TokenBucket(rate=1.0, burst=2, now=clock.__next__)
>>> [bucket.take(), bucket.take(), bucket.take(), bucket.take()]
[True, True, False, True]
"""

import time
from collections.abc import Callable
from typing import Final

from connector_store.cache import Lru

MAX_SOURCES: Final = 10_000
"""Maximum number of sources. The least recently used one is evicted first."""


class TokenBucket:
    """Bucket of at most `burst` tokens, refilled with `rate` tokens a second. It starts full. `now` returns seconds."""

    def __init__(self, *, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._tokens = burst
        self._refilled_at = now()

    def take(self) -> bool:
        """Take one token. Return False if the bucket is empty."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._refilled_at) * self._rate)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def refund(self) -> None:
        """Return a token, for an event that the limit does not concern."""
        self._tokens = min(self._burst, self._tokens + 1)


class TokenBucketBySource:
    """One token bucket for each source, such as a client's address."""

    def __init__(
        self,
        *,
        rate: float,
        burst: float,
        max_sources: int = MAX_SOURCES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._buckets = Lru[str, TokenBucket](max_sources)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: str) -> bool:
        """Take one token of that source. Return False if there is none."""
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = TokenBucket(rate=self._rate, burst=self._burst, now=self._now)
            self._buckets.put(source, bucket)
        return bucket.take()

    def refund(self, source: str) -> None:
        bucket = self._buckets.get(source)
        if bucket is not None:
            bucket.refund()
