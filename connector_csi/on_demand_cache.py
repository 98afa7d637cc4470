"""On-demand cache of objects of one kind: those that the volumes of this node name, and no others.

A cluster can have many objects, and a node uses few. One metadata watch shows which objects change. Each requested
object is read on its own: at the first request, and after each change. A change of the status alone does not change
`metadata.generation`, so it causes no read.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Never

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import Resource
from connector_store.kube.work_queue import WorkQueue, run_workers

MAX_ENTRIES: Final = 4096
"""Maximum number of cached objects. The least recently used is evicted first, and read again on request."""
UNUSED_TIMEOUT: Final = 900.0
"""Seconds after which an unused object is evicted. kubelet causes a use of each volume within 90 seconds."""
EVICTION_INTERVAL: Final = 60.0
"""Seconds between two evictions of unused objects."""
READ_JITTER: Final = 2.0
"""Maximum seconds between a change and the read. The nodes that use one object spread their reads over it."""
MAX_CONCURRENT_READS: Final = 4
"""Maximum number of objects that are read at the same time."""


class ObjectVersion(NamedTuple):
    """Key and version of an object, from its metadata."""

    key: ObjectKey
    uid: str
    generation: int


@dataclass(slots=True)
class _OnDemandEntry:
    used_at: float
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the object was read, or is known to be absent."""
    version: tuple[str, int] = ("", 0)
    """uid and generation of the object that was read."""


class OnDemandCache:
    """Cache of requested objects. `on_read` receives each object that was read, or None if it is absent or evicted."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        on_read: Callable[[ObjectKey, RawObject | None], None],
        *,
        label_selector: str = "",
        watch_timeout: float,
        read_jitter: float = READ_JITTER,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._on_read = on_read
        self._read_jitter = read_jitter
        self._random = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._entries: OrderedDict[ObjectKey, _OnDemandEntry] = OrderedDict()
        # Errors are logged at DEBUG: what fails a read also fails the watch, which logs it once.
        self._queue: WorkQueue[ObjectKey] = WorkQueue(resource.plural, log_level=logging.DEBUG)
        self.watch: Final = Reflector(
            client,
            resource,
            _parse_version,
            self,
            label_selector=label_selector,
            watch_timeout=watch_timeout,
            changes_only=True,
        )

    def __len__(self) -> int:
        return len(self._entries)

    async def load(self, keys: Iterable[ObjectKey]) -> None:
        """Return when each object was read, or is known to be absent."""
        # All are requested before the first wait, so that they are read in parallel and none waits for one that fails.
        for entry in [self._get_or_add(key) for key in keys]:
            await entry.loaded.wait()

    def touch(self, key: ObjectKey) -> None:
        """Mark an object as used, if it is cached."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.used_at = asyncio.get_running_loop().time()
            self._entries.move_to_end(key)

    async def run(self) -> Never:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch.run())
            tasks.create_task(run_workers(self._queue, self._read, workers=MAX_CONCURRENT_READS))
            while True:
                await asyncio.sleep(EVICTION_INTERVAL)
                self.evict_unused()
        raise AssertionError("a reader ended")

    def evict_unused(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._entries and now - next(iter(self._entries.values())).used_at > UNUSED_TIMEOUT:
            self._evict_least_recent()

    # Sink of the watch

    def replace(self, objects: tuple[ObjectVersion, ...]) -> None:
        """Read all objects again, because the watch may have missed changes."""
        for key, entry in self._entries.items():
            entry.version = ("", 0)
            self._queue.add(key)

    def put(self, obj: ObjectVersion) -> None:
        entry = self._entries.get(obj.key)
        if entry is not None and (not obj.generation or entry.version != (obj.uid, obj.generation)):
            self._queue.add_after(obj.key, self._random.uniform(0, self._read_jitter))

    def remove(self, obj: ObjectVersion) -> None:
        if obj.key in self._entries:
            self._queue.add(obj.key)

    def _get_or_add(self, key: ObjectKey) -> _OnDemandEntry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _OnDemandEntry(0.0)
            self._queue.add(key)
            if len(self._entries) > MAX_ENTRIES:
                self._evict_least_recent()
        self.touch(key)
        return entry

    def _evict_least_recent(self) -> None:
        key, _ = self._entries.popitem(last=False)
        self._on_read(key, None)

    async def _read(self, key: ObjectKey) -> None:
        entry = self._entries.get(key)
        # Before the watch is synced, a change could go unnoticed. `replace` adds all keys again when it is.
        if entry is None or not self.watch.synced.is_set():
            return
        path, query = self._resource.path(key.namespace), {"fieldSelector": f"metadata.name={key.name}"}
        # The driver's role has list but not get. The items of a list have neither apiVersion nor kind.
        page = await self._client.get(path, query)
        items: list[dict[str, Any]] = page.get("items") or []
        kind = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}
        raw = {**kind, **items[0]} if items else None
        if self._entries.get(key) is entry:
            entry.version = _parse_version(raw)[1:] if raw is not None else ("", 0)
            self._on_read(key, raw)
            entry.loaded.set()


def _parse_version(raw: RawObject) -> ObjectVersion:
    metadata = raw["metadata"]
    key = ObjectKey(metadata["namespace"], metadata["name"])
    return ObjectVersion(key, metadata.get("uid", ""), metadata.get("generation", 0))
