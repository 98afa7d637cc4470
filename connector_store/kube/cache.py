"""A bounded cache whose entries have a time to go.

>>> cache = ExpiringCache(2)
>>> cache.put("a", 1, until=10.0)
>>> cache.get("a", now=9.0), cache.get("a", now=10.0)
(1, None)
"""

from collections import OrderedDict
from collections.abc import Hashable


class ExpiringCache[K: Hashable, V]:
    """At most `size` entries; the one not used for the longest time goes first. Times are the caller's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V, *, until: float) -> None:
        self._entries[key] = (until, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def get(self, key: K, *, now: float) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        until, value = entry
        if now >= until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)
