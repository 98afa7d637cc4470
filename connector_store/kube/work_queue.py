"""Work queue of keys, as client-go's workqueue.

A key is in the queue at most once. One worker at a time processes it. Each failure delays it longer.
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
"""Seconds. The delay doubles with each failure, and a random half of it may be cut off."""


class WorkQueue[K: Hashable]:
    """Keys to reconcile. It is not thread-safe: call it on one event loop."""

    def __init__(self, name: str, *, log_level: int = logging.WARNING, rng: random.Random | None = None) -> None:
        """Create a queue. It logs retried failures with `log_level`. Use DEBUG if other code logs them, too."""
        self.name = name
        self.log_level = log_level
        self._random = rng or random.Random()  # noqa: S311 - jitter, not security
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._failure_counts: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of keys that wait for a worker."""
        return len(self._dirty)

    def add(self, key: K) -> None:
        """Enqueue `key`. If a worker processes it now, it is processed once more afterwards."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, delay: float) -> None:
        """Enqueue `key` after `delay` seconds. If it is delayed already, the earlier time counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._add_due, key)

    def add_rate_limited(self, key: K, min_delay: float = 0.0) -> None:
        """Enqueue `key` after the delay that its failures require."""
        failures = self._failure_counts[key] = self._failure_counts.get(key, 0) + 1
        backoff = min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** min(failures - 1, 16)) * self._random.uniform(0.5, 1.0)
        self.add_after(key, max(backoff, min_delay))

    def forget(self, key: K) -> int:
        """Reset the failures of `key` after a success. Return how many there were."""
        return self._failure_counts.pop(key, 0)

    async def get(self) -> K:
        """Return the next key. The worker must call `done` for it."""
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
    """Reconcile keys forever. `reconcile` returns the seconds until the key's next run, or None for no further run."""
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
        except Exception:  # a key that fails must not end the work on other keys
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
    # A conflict means that the cache is behind. The next attempt reads newer state.
    if error.status != HTTPStatus.CONFLICT:
        logger.log(queue.log_level, "%s %s: %s; it is tried again", queue.name, key, error)
