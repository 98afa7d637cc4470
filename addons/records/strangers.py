"""How many lines strangers may have: whoever is not known pays nothing for a refusal, so it must cost little."""

from collections.abc import Callable
from typing import Final

RATE: Final = 50.0
"""Lines in a second, in the long run."""
BURST: Final = 500.0
"""Lines at once, after a quiet time."""


class Strangers:
    """A token bucket; `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tokens = BURST
        self._at = now()
        self.omitted = 0
        """Lines that were not admitted, and not told of yet."""

    def admit(self) -> bool:
        """True if one more line is written; else it is counted."""
        now = self._now()
        self._tokens = min(BURST, self._tokens + max(0.0, now - self._at) * RATE)
        self._at = now
        if self._tokens < 1:
            self.omitted += 1
            return False
        self._tokens -= 1
        return True
