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
        if not self.has_token():
            return False
        self._tokens -= 1
        return True

    def has_token(self) -> bool:
        self._refill()
        return self._tokens >= 1

    def charge(self) -> None:
        """Take one token even if the bucket is empty. It stays empty until the missing tokens are refilled."""
        self._refill()
        self._tokens -= 1

    def _refill(self) -> None:
        now = self._now()
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._refilled_at) * self._rate)
        self._refilled_at = now


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

    def has_token(self, source: str) -> bool:
        bucket = self._buckets.get(source)
        return bucket is None or bucket.has_token()

    def charge(self, source: str) -> None:
        """Take one token of that source even if there is none."""
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = TokenBucket(rate=self._rate, burst=self._burst, now=self._now)
            self._buckets.put(source, bucket)
        bucket.charge()
