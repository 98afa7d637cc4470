"""A work queue of keys, as client-go's workqueue: a key waits once however often it is added, is worked on by one
worker at a time, and is put off longer each time that it fails.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from http import HTTPStatus
from typing import Final, Never

from connector_store.kube.errors import ApiError

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 60.0
"""Seconds; the pause doubles with each failure, and is spread over half to all of that."""


class WorkQueue[K: Hashable]:
    """Keys to reconcile. Not thread-safe: every call is made on one event loop."""

    def __init__(self, name: str, *, level: int = logging.WARNING, rng: random.Random | None = None) -> None:
        """`level` of the log is that of a failure that is tried again: DEBUG where somebody else tells of it."""
        self.name = name
        self.level = level
        self._random = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Have `key` worked on; once more after the work that is under way, if there is any."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._push(key)

    def add_after(self, key: K, seconds: float) -> None:
        """As `add`, later; of several times the first counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def retry(self, key: K, at_least: float = 0.0) -> None:
        """As `add`, after the pause that this key's failures have earned it."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 16)) * self._random.uniform(0.5, 1.0)
        self.add_after(key, max(pause, at_least))

    def forget(self, key: K) -> int:
        """The work succeeded; returns how often it had failed before."""
        return self._failures.pop(key, 0)

    async def get(self) -> K:
        """The next key, which is then this worker's until `done`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        self._working.discard(key)
        if key in self._waiting:
            self._push(key)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    def _push(self, key: K) -> None:
        self._ready.append(key)
        self._wake.set()


async def work[K: Hashable](
    queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]], *, workers: int = 1
) -> Never:
    """Reconcile keys for ever; what `reconcile` returns is seconds until the key is looked at again, None for never."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(_worker(queue, reconcile))
    finally:
        queue.close()
    raise AssertionError("a worker ended")


async def _worker[K: Hashable](queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]]) -> Never:
    while True:
        key = await queue.get()
        try:
            again = await reconcile(key)
        except ApiError as error:
            _failed(queue, key, error)
        except Exception:  # the worker loop's one: a key that cannot be worked on must not end all others' work
            logger.exception("%s %s", queue.name, key)
            queue.retry(key)
        else:
            if queue.forget(key):
                logger.log(min(queue.level, logging.INFO), "%s %s: done after all", queue.name, key)
            if again is not None:
                queue.add_after(key, again)
        finally:
            queue.done(key)


def _failed[K: Hashable](queue: WorkQueue[K], key: K, error: ApiError) -> None:
    queue.retry(key, float(error.retry_after or 0))
    # A conflict says that the cache is behind: the next look is at what is there by then.
    if error.status != HTTPStatus.CONFLICT:
        logger.log(queue.level, "%s %s: %s; it is tried again", queue.name, key, error)
