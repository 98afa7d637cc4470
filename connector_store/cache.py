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
from collections.abc import Hashable, Iterable


class Lru[K: Hashable, V]:
    """Mapping of at most `size` entries. Both `put` and `get` count as use."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def values(self) -> Iterable[V]:
        """Return all values, which does not count as use."""
        return self._entries.values()

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()


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
