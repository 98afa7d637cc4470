"""Token bucket: allows a burst after an idle time, and a rate in the long run."""

import time
from collections.abc import Callable


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
