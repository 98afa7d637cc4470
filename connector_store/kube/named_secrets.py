"""Reader for Secrets that Connectors name and no watch covers. It reads each one when it may have changed.

Secrets of other types are never watched with their content. One watch for each scope (the cluster, or each namespace)
reports by metadata which Secrets changed. The content is read only for those that Connectors name.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Never

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.credential_kinds import SECRET_TYPES, is_supported
from connector_store.domain.objects.models import Connector
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.on_demand import OnDemandCache
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import SECRETS
from connector_store.store import Store, StoreObject

_DEBOUNCE: Final = 0.2
"""Seconds between a change and the read. A Secret that is applied together with its Connector arrives by its watch."""


class NamedSecrets:
    """Reads Secrets when Connectors or Secrets change. `is_watched` tells which Secrets another watch covers."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        parse: Callable[[RawObject], StoreObject | None],
        is_watched: Callable[[ObjectKey], bool],
        make_watch: Callable[[OnDemandCache, str | None], Reflector[Any]],
        *,
        scope_of: Callable[[ObjectKey], str | None],
        debounce: float = _DEBOUNCE,
        on_secret_read: Callable[[ObjectKey], None] = lambda key: None,
    ) -> None:
        """Create the reader. `make_watch` returns the watch of a namespace, or of all (None), as `scope_of` says.

        `on_secret_read` is called when `has_read` becomes True for a Secret.
        """
        self.initial_reads_done = asyncio.Event()
        """Set when each Secret that was required at first has been read, or cannot be read."""
        self._store = store
        self._parse = parse
        self._is_watched = is_watched
        self._make_watch = make_watch
        self._scope_of = scope_of
        self._debounce = debounce
        self._on_secret_read = on_secret_read
        self._cache = OnDemandCache(client, SECRETS, self._on_read)
        self._required_by: dict[ObjectKey, frozenset[ObjectKey]] = {}
        """Required Secrets by Connector. A Connector that requires none has no entry."""
        self._use_counts: Counter[ObjectKey] = Counter()
        """Number of Connectors that require a Secret, by Secret."""
        self._read_keys: set[ObjectKey] = set()
        self._pending_initial: set[ObjectKey] | None = None
        self._changed_connectors: set[ObjectKey] = set()
        self._has_changed = asyncio.Event()
        self._watch_tasks: dict[str | None, asyncio.Task[None]] = {}

    def has_read(self, key: ObjectKey) -> bool:
        """Return True if the Secret was read. If the store does not have it then, it does not exist."""
        return key in self._read_keys

    async def run(self) -> Never:
        self._mark_changed(frozenset(connector.key for connector in self._store.connectors()))
        self._has_changed.set()
        unsubscribe = self._store.subscribe(self._mark_changed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._cache.run())
                while True:
                    await self._has_changed.wait()
                    await asyncio.sleep(self._debounce)
                    self._has_changed.clear()
                    keys = frozenset(self._changed_connectors)
                    self._changed_connectors.clear()
                    self._reconcile(keys, tasks)
        finally:
            unsubscribe()
        raise AssertionError("a worker ended")

    def retire(self, scope: str | None) -> None:
        """Stop the watch of a namespace, or of all. Secrets that are still required get another watch."""
        task = self._watch_tasks.pop(scope, None)
        if task is not None:
            task.cancel()
            self._cache.forget_scope(scope)
            self._mark_changed(frozenset(self._required_by))

    def _mark_changed(self, connectors: frozenset[ObjectKey]) -> None:
        self._changed_connectors |= connectors
        self._has_changed.set()

    def _reconcile(self, connectors: frozenset[ObjectKey], tasks: asyncio.TaskGroup) -> None:
        """Request and release Secrets after a change of these Connectors. The cost does not depend on all others."""
        secrets: set[ObjectKey] = set()
        for key in connectors:
            previous, required = self._required_by.pop(key, frozenset()), self._find_required(key)
            if required:
                self._required_by[key] = required
            self._use_counts.subtract(previous)
            self._use_counts.update(required)
            secrets |= previous | required
        for secret_key in sorted(secrets):
            if self._use_counts[secret_key]:
                self._request(secret_key, tasks)
            else:
                self._release(secret_key)
        if self._pending_initial is None:
            self._pending_initial = secrets
            self._mark_initial_done(())

    def _find_required(self, key: ObjectKey) -> frozenset[ObjectKey]:
        connector = self._store.connector(key)
        if (
            not isinstance(connector, Connector)
            or not self._store.serves(key.namespace)
            or not is_supported(connector, self._store.connector_class(connector.class_name))
        ):
            return frozenset()
        return frozenset(each for each in connector.secret_keys if not self._is_watched(each))

    def _request(self, key: ObjectKey, tasks: asyncio.TaskGroup) -> None:
        scope = self._scope_of(key)
        if scope not in self._watch_tasks:
            watch = self._make_watch(self._cache, scope)
            self._watch_tasks[scope] = tasks.create_task(self._run_watch(scope, watch))
        secret = self._store.secret(key)
        if secret is not None and secret.type in SECRET_TYPES:
            # No watch reports its changes: the watch of changes leaves out this type, and that of the type lacks it.
            self._cache.read_again(key)
        self._cache.request(key)

    def _release(self, key: ObjectKey) -> None:
        del self._use_counts[key]
        self._cache.release(key)
        self._read_keys.discard(key)
        self._store.remove_source(_source(key))

    async def _run_watch(self, scope: str | None, watch: Reflector[Any]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch.run())
            await watch.synced_or_refused.wait()
            if not watch.synced.is_set():
                self._mark_initial_done(key for key in self._use_counts if self._scope_of(key) == scope)

    def _on_read(self, key: ObjectKey, raw: RawObject | None) -> None:
        secret = self._parse(raw) if raw is not None else None
        self._store.replace(_source(key), [secret] if secret is not None else [])
        if key not in self._read_keys:
            self._read_keys.add(key)
            self._on_secret_read(key)
        self._mark_initial_done([key])

    def _mark_initial_done(self, keys: Iterable[ObjectKey]) -> None:
        if self._pending_initial is not None:
            self._pending_initial.difference_update(keys)
            if not self._pending_initial:
                self.initial_reads_done.set()


def _source(key: ObjectKey) -> str:
    return f"Secret {key}"
