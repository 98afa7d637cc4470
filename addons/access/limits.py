"""How many connections one caller may have to one Connector."""

from collections import Counter
from collections.abc import Callable

from connector_store.domain.names import ObjectKey


class Limits:
    """Counts open tunnels by caller and Connector."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._open: Counter[tuple[str, ObjectKey]] = Counter()

    def take(self, user: str, key: ObjectKey) -> Callable[[], None] | None:
        """Count one more; returns how to give it back, None if there are too many."""
        place = (user, key)
        if self._open[place] >= self.maximum:
            return None
        self._open[place] += 1

        def give_back() -> None:
            self._open[place] -= 1
            if not self._open[place]:
                del self._open[place]

        return give_back
