"""A token bucket: so many at once after a quiet time, so many a second in the long run."""

import time
from collections.abc import Callable


class TokenBucket:
    """`rate` is in tokens a second, `burst` the number that the bucket holds; it begins full. `now` gives seconds."""

    def __init__(self, *, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._left = burst
        self._at = now()

    def take(self) -> bool:
        """Take one token; False if there is none."""
        now = self._now()
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
