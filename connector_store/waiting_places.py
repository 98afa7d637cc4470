"""Bounded number of places for waiters, shared by their sources, such as client addresses.

If all places are taken, the source with the most waiters loses its newest one. So one source cannot use up the places
of the others.

>>> places = WaitingPlaces[str](2, on_evicted=lambda waiter, count: print(f"evicted {waiter}, one of {count}"))
>>> places.add("a", "a1"), places.add("a", "a2"), places.add("a", "a3")
(True, True, False)
>>> places.add("b", "b1")
evicted a2, one of 2
True
"""

from collections import deque
from collections.abc import Callable, Iterator


class WaitingPlaces[W]:
    """At most `max_count` waiters. `on_evicted` gets the evicted waiter, and the former number of its source."""

    def __init__(self, max_count: int, *, on_evicted: Callable[[W, int], None]) -> None:
        self._max_count = max_count
        self._on_evicted = on_evicted
        self.count = 0
        """Number of waiters."""
        self._waiters: dict[str, deque[W]] = {}
        """Waiters by source, in the order of the sources' turns."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[W]:
        return iter([waiter for waiters in self._waiters.values() for waiter in waiters])

    def add(self, source: str, waiter: W) -> bool:
        """Give `waiter` a place. Return False if there is none for its source."""
        if self.count >= self._max_count and not self._evict_for(source):
            return False
        self._waiters.setdefault(source, deque()).append(waiter)
        self.count += 1
        return True

    def remove(self, source: str, waiter: W) -> None:
        """Take the place of `waiter` away. If it has none, as after an eviction, this has no effect."""
        waiters = self._waiters.get(source)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            self.count -= 1
            if not waiters:
                del self._waiters[source]

    def first_of_each(self) -> Iterator[tuple[str, W]]:
        """Return the oldest waiter of each source, in the order of their turns."""
        return ((source, waiters[0]) for source, waiters in self._waiters.items())

    def end_turn(self, source: str) -> None:
        """Put `source` behind the other sources."""
        if (waiters := self._waiters.pop(source, None)) is not None:
            self._waiters[source] = waiters

    def _evict_for(self, source: str) -> bool:
        """Evict the newest waiter of the source with the most, unless `source` would then have as many."""
        largest, waiters = max(self._waiters.items(), key=lambda item: len(item[1]), default=("", deque[W]()))
        count = len(waiters)
        if count <= len(self._waiters.get(source, ())) + 1:
            return False
        waiter = waiters[-1]
        self.remove(largest, waiter)
        self._on_evicted(waiter, count)
        return True
