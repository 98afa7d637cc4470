"""Watches that fill the store from a cluster: all that a program needs, within the rights of its role."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Never

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.objects.credential_kinds import SECRET_SELECTORS, SECRET_TYPES
from connector_store.domain.objects.models import Secret
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.domain.status.serving import NotServed, namespace_not_readable, not_watched
from connector_store.kube.client import KubeClient
from connector_store.kube.named_secrets import NamedSecrets
from connector_store.kube.on_demand import ObjectVersion, OnDemandCache
from connector_store.kube.reflector import WATCH_TIMEOUT, Reflector
from connector_store.kube.resources import CA_SECRETS, CLUSTER_ROLES, CONNECTOR_CLASSES, CONNECTORS, SECRETS, Resource
from connector_store.kube.sinks import Consumer, FanOutSink, StoreSink, make_parser
from connector_store.store import Store, StoreObject

_OTHER_TYPES: Final = ",".join(f"type!={each}" for each in SECRET_TYPES)
_NAMED_SECRETS: Final = "Secrets that Connectors name"

STALE_AFTER: Final = Settings().stale_after

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the watches, which decide what the proxy may serve."""


class ClusterWatches:
    """Watches that fill `store`. `run` never returns.

    They watch Connectors, classes, ClusterRoles, Secrets by type, and CA Secrets. The store is synced when all of them
    have been listed. Connectors are watched in `namespaces`, or in all namespaces.

    If the API server refuses to list a namespace, the store does not serve that namespace. Other namespaces are not
    affected, and the watch is retried forever. After `stale_after` seconds, the store also stops serving what depends
    on a watch that does not work.
    """

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        *,
        system_namespace: str,
        namespaces: Sequence[str] | None = None,
        all_connectors: bool = False,
        watch_timeout: float = WATCH_TIMEOUT,
        stale_after: float = STALE_AFTER,
        on_restart: Callable[[str], None] = lambda kind: None,
        on_secret_read: Callable[[ObjectKey], None] = lambda key: None,
        on_not_served_changed: Callable[[], None] = lambda: None,
        consumers: Mapping[Resource, Consumer] = MappingProxyType({}),
    ) -> None:
        """Create the watches. `consumers` get the objects of their resource, too.

        `on_secret_read` is called when `has_read_secret` becomes True for a Secret. `on_not_served_changed` is called
        when `Store.not_served` changed. With `all_connectors`, the Connectors of all namespaces are watched, even if
        they are not served.
        """
        self.synced = asyncio.Event()
        self._client = client
        self._store = store
        self._watch_timeout = watch_timeout
        self._stale_after = stale_after
        self._on_restart = on_restart
        self._on_not_served_changed = on_not_served_changed
        self._consumers = consumers
        self._parse: Callable[[RawObject], StoreObject | None] = make_parser(system_namespace)
        self._namespaces = None if namespaces is None else tuple(sorted(set(namespaces)))
        self._watches: list[tuple[str | None, Reflector[Any]]] = []
        """Reflectors, each with the namespace that depends on it. None means that all namespaces do."""
        self._sources_by_scope: dict[str | None, set[str]] = {}
        self._token_sinks: list[StoreSink] = []
        self._add_watch(CONNECTOR_CLASSES)
        self._add_watch(CLUSTER_ROLES)
        self._add_watch(SECRETS, system_namespace, label_selector=CA_SECRETS, required_by_all=True)
        scopes = (None,) if self._namespaces is None else self._namespaces
        for scope in (None,) if all_connectors else scopes:
            self._add_watch(CONNECTORS, scope)
        for scope in scopes:
            self._token_sinks += [self._add_watch(SECRETS, scope, field_selector=each) for each in SECRET_SELECTORS]
        store.serve_only(self._namespaces)
        store.expect(_NAMED_SECRETS)
        self._named_secrets = NamedSecrets(
            client,
            store,
            self._parse,
            self._is_watched_by_type,
            self._make_change_watch,
            by_namespace=self._namespaces is not None,
            on_secret_read=on_secret_read,
        )

    def has_read_secret(self, key: ObjectKey) -> bool:
        """Return True if the Secret was read. If the store does not have it then, it does not exist."""
        return self._named_secrets.has_read(key)

    def watch_ages(self) -> Mapping[str, float]:
        """Return, for each kind, the seconds since its oldest watch was in sync with the API server.

        Namespaces in `Store.not_served` are left out.
        """
        now = asyncio.get_running_loop().time()
        ages: dict[str, float] = {}
        for scope, watch in self._watches:
            if scope is None or scope not in self._store.not_served:
                ages[watch.kind] = max(ages.get(watch.kind, 0.0), watch.age(now))
        return ages

    async def run(self) -> Never:
        async with asyncio.TaskGroup() as tasks:
            for _, watch in self._watches:
                tasks.create_task(watch.run())
            for scope, watch in self._watches:
                await (watch.synced if scope is None else watch.synced_or_refused).wait()
            self._update_not_served()
            # Only the synced watches tell which Secrets need no read.
            tasks.create_task(self._named_secrets.run())
            await self._named_secrets.initial_reads_done.wait()
            self._store.remove_source(_NAMED_SECRETS)
            self.synced.set()
            while True:
                await asyncio.sleep(CHECK_INTERVAL)
                self._update_not_served()
        raise AssertionError("a reflector ended")

    def _update_not_served(self) -> None:
        """Stop serving what depends on a broken watch, and serve it again when the watch works."""
        previous = dict(self._store.not_served)
        now = asyncio.get_running_loop().time()
        problems: dict[str | None, NotServed] = {}
        for scope, watch in self._watches:
            problem = self._not_served_reason(scope, watch, now)
            if problem is not None:
                problems.setdefault(scope, problem)
        for scope in (None, *(self._namespaces or ())):
            self._store.set_not_served(scope, problems.get(scope))
            if scope in problems:
                for source in self._sources_by_scope.get(scope, ()):
                    self._store.stop_expecting(source)
        if self._store.not_served != previous:
            self._on_not_served_changed()

    def _not_served_reason(self, scope: str | None, reflector: Reflector[Any], now: float) -> NotServed | None:
        is_refused = reflector.refusal is not None
        if not reflector.synced.is_set():
            return namespace_not_readable(scope) if scope is not None and is_refused else None
        if reflector.age(now) <= self._stale_after:
            return None
        if scope is not None and is_refused:
            return namespace_not_readable(scope)
        return not_watched(reflector.kind, self._stale_after, refused=is_refused)

    def _add_watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        field_selector: str = "",
        label_selector: str = "",
        required_by_all: bool = False,
    ) -> StoreSink:
        """Add a watch that the store waits for. With `required_by_all`, all namespaces depend on it."""
        source = " ".join(filter(None, (resource.kind, namespace, field_selector, label_selector)))
        scope = None if required_by_all else namespace
        self._store.expect(source)
        self._sources_by_scope.setdefault(scope, set()).add(source)
        sink = StoreSink(self._store, source)
        extra_consumers = [self._consumers[resource]] if resource in self._consumers else []
        fork = FanOutSink((self._parse, sink), *extra_consumers)
        self._watches.append(
            (
                scope,
                Reflector(
                    self._client,
                    resource,
                    fork.parse,
                    fork,
                    namespace=namespace,
                    field_selector=field_selector,
                    label_selector=label_selector,
                    watch_timeout=self._watch_timeout,
                    on_restart=self._on_restart,
                ),
            )
        )
        return sink

    def _make_change_watch(self, cache: OnDemandCache, scope: str | None) -> Reflector[ObjectVersion]:
        """Return a reflector that reports which Secrets changed, without those that another watch covers."""
        reflector = cache.make_watch(
            scope, field_selector=_OTHER_TYPES, watch_timeout=self._watch_timeout, on_restart=self._on_restart
        )
        self._watches.append((scope, reflector))
        return reflector

    def _is_watched_by_type(self, key: ObjectKey) -> bool:
        return any((Secret, key) in sink.identities for sink in self._token_sinks)
