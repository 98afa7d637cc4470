"""Snapshots of the state for all subscribers of the stream. Without subscribers, no snapshot is built."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

from mitmproxy.utils import asyncio_utils

Snapshot = Mapping[str, str]
"""Objects as JSON, by key."""

INTERVAL: Final = 0.5
"""Minimum number of seconds between two snapshots."""
COST_FACTOR: Final = 9.0
"""A pause lasts at least this many times as long as its snapshot took, which bounds the share of the CPU."""


class Snapshots:
    """Latest snapshot, built while `subscriber_count` is not 0. `build` returns a snapshot."""

    def __init__(self, build: Callable[[], Awaitable[Snapshot]]) -> None:
        self._build = build
        self._latest: Snapshot = {}
        self._version = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.subscriber_count = 0

    def subscribe(self) -> None:
        self.subscriber_count += 1
        if self._task is None:
            self._task = asyncio_utils.create_task(self._run(), name="connector snapshots", keep_ref=True)

    def unsubscribe(self) -> None:
        self.subscriber_count -= 1
        if self.subscriber_count == 0 and self._task is not None:
            self._task.cancel()
            self._task, self._latest, self._version = None, {}, 0

    async def next(self, version: int) -> tuple[int, Snapshot]:
        """Wait for a snapshot newer than `version`, and return it with its version. The first version is 1."""
        while self._version <= version:
            await self._changed.wait()
        return self._version, self._latest

    async def _run(self) -> None:
        while True:
            started_at = time.perf_counter()
            self._latest = await self._build()
            self._version += 1
            self._changed.set()
            self._changed.clear()
            await asyncio.sleep(max(INTERVAL, COST_FACTOR * (time.perf_counter() - started_at)))


def changes(old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Yield a line of JSON for each object that was changed, added or removed."""
    for key, value in new.items():
        if old.get(key) != value:
            yield f'{{"put":{json.dumps(key)},"object":{value}}}\n'
    for key in old.keys() - new.keys():
        yield f'{{"gone":{json.dumps(key)}}}\n'
