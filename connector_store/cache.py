"""Bounded caches, which evict the least recently used entry.

>>> lru = Lru(2)
>>> for key in "abc":
...     lru.put(key, key.upper())
>>> lru.get("a"), lru.get("c")
(None, 'C')
>>> cache = ExpiringCache(2)
>>> cache.put("a", 1, expires_at=10.0)
>>> cache.get("a", now=9.0), cache.get("a", now=10.0)
(1, None)
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable


class Lru[K: Hashable, V]:
    """Mapping whose entries weigh at most `size` together. Both `put` and `get` count as use.

    `weight` returns the weight of a key's entry, always the same for one key. By default, `size` is the number of
    entries. The newest entry stays even if it alone weighs more.
    """

    def __init__(self, size: int, weight: Callable[[K], int] = lambda _: 1) -> None:
        self._size = size
        self._weight = weight
        self._total_weight = 0
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V) -> None:
        if key not in self._entries:
            self._total_weight += self._weight(key)
        self._entries[key] = value
        self._entries.move_to_end(key)
        while self._total_weight > self._size and len(self._entries) > 1:
            self.drop(next(iter(self._entries)))

    def get(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def values(self) -> Iterable[V]:
        """Return all values, which does not count as use."""
        return self._entries.values()

    def drop(self, key: K) -> None:
        if key in self._entries:
            del self._entries[key]
            self._total_weight -= self._weight(key)

    def clear(self) -> None:
        self._entries.clear()
        self._total_weight = 0


class ExpiringCache[K: Hashable, V]:
    """`Lru` whose entries expire. The caller supplies all times."""

    def __init__(self, size: int) -> None:
        self._entries = Lru[K, tuple[float, V]](size)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V, *, expires_at: float) -> None:
        self._entries.put(key, (expires_at, value))

    def get(self, key: K, *, now: float) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_at, value = entry
        if now >= expires_at:
            self._entries.drop(key)
            return None
        return value

    def drop(self, key: K) -> None:
        self._entries.drop(key)
