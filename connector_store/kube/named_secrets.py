"""Reader for Secrets that Connectors name and no watch covers. It reads each one when it may have changed.

RBAC cannot limit a watch to some Secrets of a type, so Secrets of other types are never watched with their content. One
watch for each scope (the cluster, or each namespace) reports by metadata which Secrets changed. The content is read
only for those that Connectors name. A name without a Secret costs one request and an entry in a set.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Never, Protocol

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.credential_kinds import is_supported
from connector_store.domain.objects.models import Connector
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.reflector import Sink
from connector_store.kube.resources import SECRETS
from connector_store.kube.work_queue import WorkQueue, run_workers
from connector_store.store import Store, StoreObject

READ_WORKERS: Final = 8
"""Number of concurrent reads."""

_DEBOUNCE: Final = 0.2
"""Seconds between a change and the read. A Secret that is applied together with its Connector arrives by its watch."""


class ChangeFeed(Protocol):
    """Source of changes in one scope. See `Reflector` with `changes_only`."""

    synced: asyncio.Event
    synced_or_refused: asyncio.Event

    async def run(self) -> Never: ...


class NamedSecrets:
    """Reads Secrets when Connectors or Secrets change. `is_watched` tells which Secrets another watch covers."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        parse: Callable[[RawObject], StoreObject | None],
        is_watched: Callable[[ObjectKey], bool],
        make_feed: Callable[[str | None, Sink[ObjectKey]], ChangeFeed],
        *,
        by_namespace: bool,
        debounce: float = _DEBOUNCE,
        on_secret_read: Callable[[ObjectKey], None] = lambda key: None,
    ) -> None:
        """Create the reader. `make_feed` returns the feed of a namespace, or of all (None), for a sink.

        `on_secret_read` is called when `has_read` becomes True for a Secret.
        """
        self.initial_reads_done = asyncio.Event()
        """Set when each Secret that was required at first has been read, or cannot be read."""
        self._client = client
        self._store = store
        self._parse = parse
        self._is_watched = is_watched
        self._make_feed = make_feed
        self._by_namespace = by_namespace
        self._debounce = debounce
        self._on_secret_read = on_secret_read
        self._required: frozenset[ObjectKey] = frozenset()
        self._read_keys: set[ObjectKey] = set()
        self._pending_initial: set[ObjectKey] | None = None
        self._feeds: dict[str | None, ChangeFeed] = {}
        # A failure also stops the feed of the Secret's scope, which logs it once.
        self._queue: WorkQueue[ObjectKey] = WorkQueue("secrets", log_level=logging.DEBUG)

    def has_read(self, key: ObjectKey) -> bool:
        """Return True if the Secret was read. If the store does not have it then, it does not exist."""
        return key in self._read_keys

    async def run(self) -> Never:
        store_changed = asyncio.Event()
        store_changed.set()
        unsubscribe = self._store.subscribe(lambda keys: store_changed.set())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_workers(self._queue, self._read, workers=READ_WORKERS))
                while True:
                    await store_changed.wait()
                    await asyncio.sleep(self._debounce)
                    store_changed.clear()
                    self._reconcile(tasks)
        finally:
            unsubscribe()
        raise AssertionError("a worker ended")

    def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        previous, self._required = self._required, self._find_required()
        for key in previous - self._required:
            self._read_keys.discard(key)
            self._store.remove_source(_source(key))
        for scope in {self._scope(key) for key in self._required} - self._feeds.keys():
            self._feeds[scope] = self._make_feed(scope, _ChangeSink(self, scope))
            tasks.create_task(self._run_feed(scope, self._feeds[scope]))
        for key in sorted(self._required - previous):
            self._queue.add(key)
        if self._pending_initial is None:
            self._pending_initial = set(self._required)
            self._mark_initial_done(())

    async def _run_feed(self, scope: str | None, feed: ChangeFeed) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.run())
            await feed.synced_or_refused.wait()
            if not feed.synced.is_set():
                self._mark_initial_done(key for key in self._required if self._scope(key) == scope)

    def _find_required(self) -> frozenset[ObjectKey]:
        return frozenset(
            key
            for connector in self._store.connectors()
            if isinstance(connector, Connector)
            and self._store.serves(connector.key.namespace)
            and is_supported(connector, self._store.connector_class(connector.class_name))
            for key in connector.secret_keys
            if not self._is_watched(key)
        )

    def _scope(self, key: ObjectKey) -> str | None:
        return key.namespace if self._by_namespace else None

    def enqueue(self, key: ObjectKey) -> None:
        """Read this Secret again, if it is required."""
        if key in self._required:
            self._queue.add(key)

    def enqueue_scope(self, scope: str | None) -> None:
        """Read all required Secrets of this scope again."""
        for key in self._required:
            if self._scope(key) == scope:
                self._queue.add(key)

    async def _read(self, key: ObjectKey) -> None:
        # When the feed has synced, it enqueues all keys again. So no change is missed after a read.
        if key not in self._required or not self._feeds[self._scope(key)].synced.is_set():
            return
        objects = await self._fetch(key)
        if key in self._required:
            self._apply(key, objects)

    async def _fetch(self, key: ObjectKey) -> list[StoreObject]:
        """Return the Secret, or nothing. This lists by name, because the programs' roles have list and not get."""
        response = await self._client.get(SECRETS.path(key.namespace), {"fieldSelector": f"metadata.name={key.name}"})
        items: list[dict[str, Any]] = response.get("items") or []
        # The items of a list have neither apiVersion nor kind.
        typed_items = ({"apiVersion": "v1", "kind": SECRETS.kind, **item} for item in items)
        return [each for each in map(self._parse, typed_items) if each is not None]

    def _apply(self, key: ObjectKey, objects: list[StoreObject]) -> None:
        self._store.replace(_source(key), objects)
        if key not in self._read_keys:
            self._read_keys.add(key)
            self._on_secret_read(key)
        self._mark_initial_done([key])

    def _mark_initial_done(self, keys: Iterable[ObjectKey]) -> None:
        if self._pending_initial is not None:
            self._pending_initial.difference_update(keys)
            if not self._pending_initial:
                self.initial_reads_done.set()


class _ChangeSink:
    """Sink of one scope's feed."""

    def __init__(self, secrets: NamedSecrets, scope: str | None) -> None:
        self._secrets = secrets
        self._scope = scope

    def replace(self, objects: tuple[ObjectKey, ...]) -> None:
        self._secrets.enqueue_scope(self._scope)

    def put(self, obj: ObjectKey) -> None:
        self._secrets.enqueue(obj)

    def remove(self, obj: ObjectKey) -> None:
        self._secrets.enqueue(obj)


def _source(key: ObjectKey) -> str:
    return f"Secret {key}"
