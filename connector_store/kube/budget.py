"""A number of things that may be done at once, and a rate at which it comes back (a token bucket).

>>> budget = Budget(1.0, 2)
>>> [budget.take(0.0), budget.take(0.0), budget.take(0.5), budget.take(1.0)]
[True, True, False, True]
"""

from collections import OrderedDict
from typing import Final

SOURCES: Final = 10_000
"""Sources that are told apart; the one not heard of for the longest time is forgotten first."""


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

    def give_back(self) -> None:
        """It was not what the budget is for."""
        self._left = min(self._burst, self._left + 1.0)


class Budgets:
    """One for each source, a client's address for instance."""

    def __init__(self, per_second: float, burst: int, *, size: int = SOURCES) -> None:
        self._per_second = per_second
        self._burst = burst
        self._size = size
        self._held: OrderedDict[str, Budget] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, source: str, now: float) -> bool:
        """One less of that source's, if there is one."""
        budget = self._held.get(source)
        if budget is None:
            budget = self._held[source] = Budget(self._per_second, self._burst)
            if len(self._held) > self._size:
                self._held.popitem(last=False)
        self._held.move_to_end(source)
        return budget.take(now)

    def give_back(self, source: str) -> None:
        if (budget := self._held.get(source)) is not None:
            budget.give_back()
