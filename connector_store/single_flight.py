"""Duplicate suppression: concurrent callers with the same key share one call, as in Go's singleflight.

It bounds the calls to an API server or an issuer. A call above the limit waits for a place, and gets Unavailable if no
place becomes free in time.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

from connector_store.domain.callers.access import Unavailable

MAX_WAIT: Final = 10.0
"""Maximum number of seconds that a call waits for a place, unless the owner sets another one."""
MAX_WAITING: Final = 2_000
"""Maximum number of calls that wait. Further ones get Unavailable at once."""


class SingleFlight:
    """At most `max_in_flight` calls run at once. Further ones wait for up to `max_wait` seconds.

    `description` names the calls in the plural, for error messages.
    """

    def __init__(self, *, max_in_flight: int, description: str, max_wait: float = MAX_WAIT) -> None:
        self._max_wait = max_wait
        self._max_in_flight = max_in_flight
        self._description = description
        self._places = asyncio.Semaphore(max_in_flight)
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def do[V](self, key: Hashable, fetch: Callable[[], Coroutine[None, None, V]]) -> V | Unavailable:
        """Return the result of the running call for `key`, or else of `fetch`. All callers get its exception."""
        task: asyncio.Task[V | Unavailable] | None = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._max_in_flight + MAX_WAITING:
                return self._too_many()
            task = self._tasks[key] = asyncio.create_task(self._run(fetch))
            task.add_done_callback(lambda _: self._tasks.pop(key))
        # A caller that is cancelled must not cancel the call for the others.
        return await asyncio.shield(task)

    async def _run[V](self, fetch: Callable[[], Coroutine[None, None, V]]) -> V | Unavailable:
        try:
            async with asyncio.timeout(self._max_wait):
                await self._places.acquire()
        except TimeoutError:
            return self._too_many()
        try:
            return await fetch()
        finally:
            self._places.release()

    def _too_many(self) -> Unavailable:
        reason = f"{self._max_in_flight} {self._description} are under way already"
        return Unavailable(reason=reason, kind="too_many_reviews", is_outage=True)
