"""On-demand reader of objects of one kind: those that its owner requests, and no others.

A cluster can have many objects, and a program uses few of them. RBAC cannot limit a watch to some objects, so watches
of metadata report which objects change. Each requested object is read on its own: at the first request, and after each
change. A name without an object costs one read and one entry.
"""

import asyncio
import logging
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Never

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import Resource
from connector_store.kube.work_queue import WorkQueue, run_workers

MAX_CONCURRENT_READS: Final = 8
"""Maximum number of objects that are read at the same time."""
EVICTION_INTERVAL: Final = 60.0
"""Seconds between two evictions of unused objects."""


class ObjectVersion(NamedTuple):
    """Key and version of an object, from its metadata."""

    key: ObjectKey
    uid: str
    generation: int


@dataclass(slots=True)
class _OnDemandEntry:
    used_at: float
    version: tuple[str, int] | None = None
    """uid and generation of the object that was read. None until the first read."""


class OnDemandCache:
    """Requested objects. `on_read` receives each object that was read, or None if it is absent or evicted.

    The least recently used object is evicted if there are more than `max_entries`, or if it was not used for
    `unused_timeout` seconds. A change is read after a random part of `read_jitter` seconds, so that programs that use
    the same object spread their reads. A change of the status alone does not change `metadata.generation`, so it
    causes no read.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        on_read: Callable[[ObjectKey, RawObject | None], None],
        *,
        read_jitter: float = 0.0,
        max_entries: float = math.inf,
        unused_timeout: float = math.inf,
    ) -> None:
        self._client = client
        self._resource = resource
        self._on_read = on_read
        self._read_jitter = read_jitter
        self._max_entries = max_entries
        self._unused_timeout = unused_timeout
        self._entries: OrderedDict[ObjectKey, _OnDemandEntry] = OrderedDict()
        self._synced_scopes: set[str | None] = set()
        self._read_done = asyncio.Event()
        # Errors are logged at DEBUG: what fails a read also fails the watch, which logs it once.
        self._queue: WorkQueue[ObjectKey] = WorkQueue(resource.plural, log_level=logging.DEBUG)

    def __len__(self) -> int:
        return len(self._entries)

    def make_watch(
        self,
        namespace: str | None = None,
        *,
        field_selector: str = "",
        label_selector: str = "",
        watch_timeout: float,
        on_restart: Callable[[str], None] = lambda kind: None,
    ) -> Reflector[ObjectVersion]:
        """Return the watch of a namespace, or of all. The owner runs it. Without it, no object is read."""
        return Reflector(
            self._client,
            self._resource,
            _parse_version,
            _ScopeSink(self, namespace),
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
            watch_timeout=watch_timeout,
            on_restart=on_restart,
            changes_only=True,
        )

    async def load(self, keys: Iterable[ObjectKey]) -> None:
        """Return when each object was read, or is known to be absent."""
        # All are requested before the first wait, so that they are read in parallel and none waits for one that fails.
        entries = [self.request(key) for key in keys]
        while any(entry.version is None for entry in entries):
            await self._read_done.wait()

    def request(self, key: ObjectKey) -> _OnDemandEntry:
        """Read an object now and after each change, until `release`. Mark it as used."""
        if key not in self._entries:
            self._entries[key] = _OnDemandEntry(0.0)
            self._queue.add(key)
            if len(self._entries) > self._max_entries:
                self._evict_least_recent()
        self.touch(key)
        return self._entries[key]

    def release(self, key: ObjectKey) -> None:
        """Forget an object. `on_read` is not called."""
        self._entries.pop(key, None)

    def touch(self, key: ObjectKey) -> None:
        """Mark an object as used, if it is requested."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.used_at = asyncio.get_running_loop().time()
            self._entries.move_to_end(key)

    async def run(self) -> Never:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_workers(self._queue, self._read, workers=MAX_CONCURRENT_READS))
            while True:
                await asyncio.sleep(EVICTION_INTERVAL)
                self.evict_unused()
        raise AssertionError("a reader ended")

    def evict_unused(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._entries and now - next(iter(self._entries.values())).used_at > self._unused_timeout:
            self._evict_least_recent()

    def read_again(self, key: ObjectKey, delay: float = 0.0) -> None:
        """Read an object after `delay` seconds, if it is requested."""
        if key in self._entries:
            self._queue.add_after(key, delay)

    def read_scope_again(self, scope: str | None) -> None:
        """Read all objects of a namespace, or of all, because its watch may have missed changes."""
        self._synced_scopes.add(scope)
        for key in self._entries:
            if scope in (None, key.namespace):
                self._queue.add(key)

    def forget_scope(self, scope: str | None) -> None:
        """Read nothing in a namespace, or in all, until a watch of it is synced again."""
        self._synced_scopes.discard(scope)

    def read_changed(self, changed: ObjectVersion) -> None:
        """Read an object again, if the version that was read is another one."""
        entry = self._entries.get(changed.key)
        if entry is not None and (not changed.generation or entry.version != changed[1:]):
            self.read_again(changed.key, random.uniform(0, self._read_jitter))  # noqa: S311 - spreads load, guards nothing

    def _evict_least_recent(self) -> None:
        key, _ = self._entries.popitem(last=False)
        self._on_read(key, None)

    async def _read(self, key: ObjectKey) -> None:
        entry = self._entries.get(key)
        # Before the watch is synced, a change could go unnoticed. All objects are read again when it is.
        if entry is None or self._synced_scopes.isdisjoint((None, key.namespace)):
            return
        path, query = self._resource.path(key.namespace), {"fieldSelector": f"metadata.name={key.name}"}
        # The programs' roles have list but not get. The items of a list have neither apiVersion nor kind.
        page = await self._client.get(path, query)
        items: list[dict[str, Any]] = page.get("items") or []
        kind = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}
        raw = {**kind, **items[0]} if items else None
        if self._entries.get(key) is entry:
            entry.version = _parse_version(raw)[1:] if raw is not None else ("", 0)
            self._on_read(key, raw)
            self._read_done.set()
            self._read_done.clear()


class _ScopeSink:
    """Sink of the watch of one namespace, or of all."""

    def __init__(self, cache: OnDemandCache, scope: str | None) -> None:
        self._scope = scope
        self._cache = cache
        self.put = cache.read_changed

    def replace(self, objects: tuple[ObjectVersion, ...]) -> None:
        self._cache.read_scope_again(self._scope)

    def remove(self, obj: ObjectVersion) -> None:
        self._cache.read_again(obj.key)


def _parse_version(raw: RawObject) -> ObjectVersion:
    metadata = raw["metadata"]
    key = ObjectKey(metadata["namespace"], metadata["name"])
    return ObjectVersion(key, metadata.get("uid", ""), metadata.get("generation", 0))
