"""A number of things that may be done at once, and a rate at which it comes back (a token bucket).

>>> budget = Budget(1.0, 2)
>>> [budget.take(0.0), budget.take(0.0), budget.take(0.5), budget.take(1.0)]
[True, True, False, True]
"""


class Budget:
    """Times are the caller's, in seconds."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._left = float(burst)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """One less, if there is one."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
