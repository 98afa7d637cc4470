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

INITIAL_BACKOFF: Final = 0.2
MAX_BACKOFF: Final = 60.0
"""Seconds; the pause doubles with each failure, and is spread over half to all of that."""


class WorkQueue[K: Hashable]:
    """Keys to reconcile. Not thread-safe: every call is made on one event loop."""

    def __init__(self, name: str, *, log_level: int = logging.WARNING, rng: random.Random | None = None) -> None:
        """`level` of the log is that of a failure that is tried again: DEBUG where somebody else tells of it."""
        self.name = name
        self.log_level = log_level
        self._random = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._failure_counts: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._dirty)

    def add(self, key: K) -> None:
        """Have `key` worked on; once more after the work that is under way, if there is any."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, delay: float) -> None:
        """As `add`, later; of several times the first counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._add_due, key)

    def add_rate_limited(self, key: K, min_delay: float = 0.0) -> None:
        """As `add`, after the pause that this key's failures have earned it."""
        failures = self._failure_counts[key] = self._failure_counts.get(key, 0) + 1
        backoff = min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** min(failures - 1, 16)) * self._random.uniform(0.5, 1.0)
        self.add_after(key, max(backoff, min_delay))

    def forget(self, key: K) -> int:
        """The work succeeded; returns how often it had failed before."""
        return self._failure_counts.pop(key, 0)

    async def get(self) -> K:
        """The next key, which is then this worker's until `done`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        self._processing.discard(key)
        if key in self._dirty:
            self._push(key)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _add_due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    def _push(self, key: K) -> None:
        self._ready.append(key)
        self._wake.set()


async def run_workers[K: Hashable](
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
            requeue_after = await reconcile(key)
        except ApiError as error:
            _retry_failed(queue, key, error)
        except Exception:  # the worker loop's one: a key that cannot be worked on must not end all others' work
            logger.exception("%s %s", queue.name, key)
            queue.add_rate_limited(key)
        else:
            if queue.forget(key):
                logger.log(min(queue.log_level, logging.INFO), "%s %s: done after all", queue.name, key)
            if requeue_after is not None:
                queue.add_after(key, requeue_after)
        finally:
            queue.done(key)


def _retry_failed[K: Hashable](queue: WorkQueue[K], key: K, error: ApiError) -> None:
    queue.add_rate_limited(key, float(error.retry_after or 0))
    # A conflict says that the cache is behind: the next look is at what is there by then.
    if error.status != HTTPStatus.CONFLICT:
        logger.log(queue.log_level, "%s %s: %s; it is tried again", queue.name, key, error)
