"""Duplicate suppression: concurrent callers with the same key share one call, as in Go's singleflight.

It bounds the calls to an API server or an issuer. Calls are not queued: a call above the limit gets Unavailable.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from connector_store.domain.callers.access import Unavailable


class SingleFlight:
    """At most `max_in_flight` calls run at once. `description` names the calls in the plural, for error messages."""

    def __init__(self, *, max_in_flight: int, description: str) -> None:
        self._max_in_flight = max_in_flight
        self._description = description
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def do[V](self, key: Hashable, fetch: Callable[[], Coroutine[None, None, V]]) -> V | Unavailable:
        """Return the result of the running call for `key`, or else of `fetch`. All callers get its exception."""
        task: asyncio.Task[V] | None = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._max_in_flight:
                reason = f"{self._max_in_flight} {self._description} are under way already"
                return Unavailable(reason=reason, kind="too_many_reviews")
            task = self._tasks[key] = asyncio.create_task(fetch())
            task.add_done_callback(lambda _: self._tasks.pop(key))
        # A caller that is cancelled must not cancel the call for the others.
        return await asyncio.shield(task)
