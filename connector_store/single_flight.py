"""One answer for all who ask the same at the same time.

What is asked of others (an API server, an issuer) is asked once, however many wait for it. Nobody is queued: what would
be more than so many questions at once is Unavailable.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from connector_store.domain.callers.access import Unavailable


class SingleFlight:
    """`most` questions are under way at once; `what` names them in the plural, for whoever comes too late."""

    def __init__(self, *, max_in_flight: int, description: str) -> None:
        self._max_in_flight = max_in_flight
        self._description = description
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def do[V](self, key: Hashable, fetch: Callable[[], Coroutine[None, None, V]]) -> V | Unavailable:
        """The answer that is under way for the same `question`, or that of `ask`; what that raises, all get."""
        task: asyncio.Task[V] | None = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._max_in_flight:
                return Unavailable(reason=f"{self._max_in_flight} {self._description} are under way already")
            task = self._tasks[key] = asyncio.create_task(fetch())
            task.add_done_callback(lambda _: self._tasks.pop(key))
        # A caller that goes away takes the answer from nobody else.
        return await asyncio.shield(task)
