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

    def __init__(self, *, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}

    async def once[V](self, question: Hashable, ask: Callable[[], Coroutine[None, None, V]]) -> V | Unavailable:
        """The answer that is under way for the same `question`, or that of `ask`; what that raises, all get."""
        task: asyncio.Task[V] | None = self._flights.get(question)
        if task is None:
            if len(self._flights) >= self._most:
                return Unavailable(reason=f"{self._most} {self._what} are under way already")
            task = self._flights[question] = asyncio.create_task(ask())
            task.add_done_callback(lambda _: self._flights.pop(question))
        # A caller that goes away takes the answer from nobody else.
        return await asyncio.shield(task)
