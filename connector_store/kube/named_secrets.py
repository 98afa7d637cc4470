"""Secrets that Connectors name and that no other watch brings: read one by one, when they may have changed.

RBAC cannot limit a watch to some Secrets of a type, so Secrets of other types are never watched as a whole: one watch
for each scope (the cluster, or each namespace) tells, by metadata alone, which Secrets changed, and of those that
Connectors name the content is asked for. A name that leads to nothing costs one request and a place in a set.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Never, Protocol

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.auth import is_supported
from connector_store.domain.objects.cursor import RawObject
from connector_store.domain.objects.models import Connector
from connector_store.kube.client import KubeClient
from connector_store.kube.queue import WorkQueue, work
from connector_store.kube.reflector import Sink
from connector_store.kube.resources import SECRETS
from connector_store.store import Store, StoreObject

READERS: Final = 8
"""Secrets that are asked for at a time."""

_SETTLE: Final = 0.2
"""Seconds from a change to a look at it: a Secret applied beside its Connector comes by the watch of its type."""


class Feed(Protocol):
    """What tells of changes in one scope; see `Reflector` with `changes_only`."""

    synced: asyncio.Event
    settled: asyncio.Event

    async def run(self) -> Never: ...


class NamedSecrets:
    """Reads Secrets as Connectors and Secrets come, change and go; `have` tells what other watches bring."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        parse: Callable[[RawObject], StoreObject | None],
        have: Callable[[ObjectKey], bool],
        feed: Callable[[str | None, Sink[ObjectKey]], Feed],
        *,
        by_namespace: bool,
        settle: float = _SETTLE,
        on_known: Callable[[ObjectKey], None] = lambda key: None,
    ) -> None:
        """`feed` makes what tells `sink` of changes in a namespace, or in all of them (None).

        `on_known` is called when `knows` turns true.
        """
        self.settled = asyncio.Event()
        """Set once each Secret that was named at first has been read, or is known to be out of reach."""
        self._client = client
        self._store = store
        self._parse = parse
        self._have = have
        self._feed = feed
        self._by_namespace = by_namespace
        self._settle = settle
        self._on_known = on_known
        self._wanted: frozenset[ObjectKey] = frozenset()
        self._known: set[ObjectKey] = set()
        self._first: set[ObjectKey] | None = None
        self._feeds: dict[str | None, Feed] = {}
        # What keeps us from reading one Secret keeps its feed too, which says so once.
        self._queue: WorkQueue[ObjectKey] = WorkQueue("secrets", level=logging.DEBUG)

    def knows(self, key: ObjectKey) -> bool:
        """Whether a Secret that a Connector names, and the store lacks, is known to be absent."""
        return key in self._known

    async def run(self) -> Never:
        changed = asyncio.Event()
        changed.set()
        unsubscribe = self._store.subscribe(lambda keys: changed.set())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(work(self._queue, self._read, workers=READERS))
                while True:
                    await changed.wait()
                    await asyncio.sleep(self._settle)
                    changed.clear()
                    self._reconcile(tasks)
        finally:
            unsubscribe()
        raise AssertionError("a reader ended")

    def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        former, self._wanted = self._wanted, self._find_wanted()
        for key in former - self._wanted:
            self._known.discard(key)
            self._store.remove_source(_source(key))
        for scope in {self._scope(key) for key in self._wanted} - self._feeds.keys():
            self._feeds[scope] = self._feed(scope, _Changes(self, scope))
            tasks.create_task(self._follow(scope, self._feeds[scope]))
        for key in sorted(self._wanted - former):
            self._queue.add(key)
        if self._first is None:
            self._first = set(self._wanted)
            self._answered(())

    async def _follow(self, scope: str | None, feed: Feed) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.run())
            await feed.settled.wait()
            if not feed.synced.is_set():
                self._answered(key for key in self._wanted if self._scope(key) == scope)

    def _find_wanted(self) -> frozenset[ObjectKey]:
        return frozenset(
            key
            for connector in self._store.connectors()
            if isinstance(connector, Connector)
            and self._store.serves(connector.key.namespace)
            and is_supported(connector, self._store.connector_class(connector.class_name))
            for key in connector.secret_keys
            if not self._have(key)
        )

    def _scope(self, key: ObjectKey) -> str | None:
        return key.namespace if self._by_namespace else None

    def changed(self, key: ObjectKey) -> None:
        """That Secret is another one now, or gone."""
        if key in self._wanted:
            self._queue.add(key)

    def all_changed(self, scope: str | None) -> None:
        """What happened in that scope is not known."""
        for key in self._wanted:
            if self._scope(key) == scope:
                self._queue.add(key)

    async def _read(self, key: ObjectKey) -> None:
        # Once the feed has begun, which adds all keys again, what is read cannot change unnoticed.
        if key not in self._wanted or not self._feeds[self._scope(key)].synced.is_set():
            return
        found = await self._ask(key)
        if key in self._wanted:
            self._take(key, found)

    async def _ask(self, key: ObjectKey) -> list[StoreObject]:
        """The Secret or nothing; our role has list, and no get."""
        answer = await self._client.get(SECRETS.path(key.namespace), {"fieldSelector": f"metadata.name={key.name}"})
        items: list[dict[str, Any]] = answer.get("items") or []
        # The items of a list have neither apiVersion nor kind.
        named = ({"apiVersion": "v1", "kind": SECRETS.kind, **item} for item in items)
        return [each for each in map(self._parse, named) if each is not None]

    def _take(self, key: ObjectKey, found: list[StoreObject]) -> None:
        self._store.replace(_source(key), found)
        if key not in self._known:
            self._known.add(key)
            self._on_known(key)
        self._answered([key])

    def _answered(self, keys: Iterable[ObjectKey]) -> None:
        if self._first is not None:
            self._first.difference_update(keys)
            if not self._first:
                self.settled.set()


class _Changes:
    """The sink of one scope's feed."""

    def __init__(self, secrets: NamedSecrets, scope: str | None) -> None:
        self._secrets = secrets
        self._scope = scope

    def replace(self, objects: tuple[ObjectKey, ...]) -> None:
        self._secrets.all_changed(self._scope)

    def put(self, obj: ObjectKey) -> None:
        self._secrets.changed(obj)

    def remove(self, obj: ObjectKey) -> None:
        self._secrets.changed(obj)


def _source(key: ObjectKey) -> str:
    return f"Secret {key}"
