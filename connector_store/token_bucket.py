"""Token bucket: allows a burst after an idle time, and a rate in the long run.

>>> clock = iter([0.0, 0.0, 0.0, 0.5, 1.5])
>>> bucket = TokenBucket(rate=1.0, burst=2, now=clock.__next__)
>>> [bucket.take(), bucket.take(), bucket.take(), bucket.take()]
[True, True, False, True]
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from connector_store.cache import Lru

MAX_SOURCES: Final = 10_000
"""Maximum number of sources. The least recently used one is evicted first."""
MAX_BUCKETS: Final = 20_000
"""Maximum number of buckets of a `TokenBucketTable` before new keys share one, about 10 MB."""
SWEEP_SIZE: Final = 16
"""Buckets that are examined for each new key while the table is full."""


class TokenBucket:
    """Bucket of at most `burst` tokens, refilled with `rate` tokens a second. It starts full. `now` returns seconds."""

    __slots__ = ("_burst", "_now", "_rate", "_refilled_at", "_tokens")

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

    def reserve(self, *, max_wait: float) -> float | None:
        """Take one token, even if it is refilled later. Return the seconds until then, or None above `max_wait`."""
        wait = self.wait()
        if wait > max_wait:
            return None
        self._tokens -= 1
        return wait

    def wait(self) -> float:
        """Return the number of seconds until there is a token, 0 if there is one now."""
        self._refill()
        return max(0.0, 1 - self._tokens) / self._rate

    @property
    def is_full(self) -> bool:
        self._refill()
        return self._tokens >= self._burst

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
        self._bucket(source).charge()

    def reserve(self, source: str, *, max_wait: float) -> float | None:
        """Take one token of that source, even if it is refilled later (see `TokenBucket.reserve`)."""
        return self._bucket(source).reserve(max_wait=max_wait)

    def _bucket(self, source: str) -> TokenBucket:
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = TokenBucket(rate=self._rate, burst=self._burst, now=self._now)
            self._buckets.put(source, bucket)
        return bucket


class TokenBucketTable[K: Hashable]:
    """Token buckets with rates of their own, by key.

    A bucket that is not full is never evicted, so no key gets its burst again too early. If the table is full, new keys
    share a bucket. The number of buckets is at most twice `max_buckets`.
    """

    def __init__(self, *, max_buckets: int = MAX_BUCKETS, now: Callable[[], float] = time.monotonic) -> None:
        self._max_buckets = max_buckets
        self._now = now
        self._buckets: OrderedDict[K, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def find(self, key: K, *, shared_key: K, rate: float, burst: float) -> TokenBucket | None:
        """Return the bucket of `key`, or that of `shared_key` if the table is full. Return None beyond the maximum."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            return bucket
        if len(self._buckets) >= self._max_buckets:
            self._evict_full()
        if len(self._buckets) >= self._max_buckets:
            key = shared_key
            bucket = self._buckets.get(key)
            if bucket is not None or len(self._buckets) >= 2 * self._max_buckets:
                return bucket
        bucket = self._buckets[key] = TokenBucket(rate=rate, burst=burst, now=self._now)
        return bucket

    def _evict_full(self) -> None:
        """Evict the full ones of the buckets that were examined least recently."""
        for _ in range(min(SWEEP_SIZE, len(self._buckets))):
            key, bucket = self._buckets.popitem(last=False)
            if not bucket.is_full:
                self._buckets[key] = bucket
