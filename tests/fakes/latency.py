"""Latency of calls, and a comparison that other work on the machine does not fail."""

from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final, Self

FLOOR: Final = 0.15
"""Seconds that one call of a hundred may take on a busy machine. The median may take a third of it."""
MAX_FACTOR: Final = 1.5


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and p99 of calls, in seconds."""

    median: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> Self:
        return cls(median(seconds), quantiles(seconds, n=100)[98])


def is_as_fast(before: Latency, during: Latency) -> bool:
    """Return whether calls are at most MAX_FACTOR times slower than before, or faster than FLOOR."""
    return during.median <= max(MAX_FACTOR * before.median, FLOOR / 3) and during.p99 <= max(
        MAX_FACTOR * before.p99, FLOOR
    )
