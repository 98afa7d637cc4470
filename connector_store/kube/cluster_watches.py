"""Watches that fill the store from a cluster: all that a program needs, within the rights of its role."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
from connector_store.kube.resources import (
    ACCESS_APPROVALS,
    ACCESS_LOCKS,
    ACCESS_POLICIES,
    ACCESS_REQUESTS,
    CA_SECRETS,
    CLUSTER_ROLES,
    CONNECTOR_CLASSES,
    CONNECTORS,
    NAMESPACES,
    SECRETS,
    Resource,
)
from connector_store.kube.sinks import Consumer, FanOutSink, StoreSink, make_parser
from connector_store.store import Store, StoreObject

_OTHER_TYPES: Final = ",".join(f"type!={each}" for each in SECRET_TYPES)
_NAMED_SECRETS: Final = "Secrets that Connectors name"

STALE_AFTER: Final = Settings().stale_after

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the watches, which decide what the proxy may serve."""
PENDING_INTERVAL: Final = 0.1
"""Seconds between two checks while the first lists of new namespaces are missing."""

Scope = str | None
"""Namespace, or None for all namespaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    reflector: Reflector[Any]
    required_by: Scope
    """Namespace that depends on the watch. None means that all namespaces do."""
    source: str = ""
    """Source of the store that the watch fills. Empty if it fills none."""

    @property
    def answered(self) -> asyncio.Event:
        """Set after the first list. In one namespace, a refusal also counts."""
        return self.reflector.synced if self.required_by is None else self.reflector.synced_or_refused


class ClusterWatches:
    """Watches that fill `store`. `run` never returns.

    They watch Connectors, classes, ClusterRoles, Secrets by type, and CA Secrets. The store is synced when all of them
    have been listed. Connectors are watched in `namespaces`, or in all namespaces. `serve` changes the namespaces.

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
        namespaces: Iterable[str] | None = None,
        all_connectors: bool = False,
        access_objects: bool = False,
        watch_timeout: float = WATCH_TIMEOUT,
        stale_after: float = STALE_AFTER,
        on_restart: Callable[[str], None] = lambda kind: None,
        on_secret_read: Callable[[ObjectKey], None] = lambda key: None,
        on_not_served_changed: Callable[[], None] = lambda: None,
        consumers: Mapping[Resource, Callable[[Scope], Consumer]] = MappingProxyType({}),
        make_scope_watch: Callable[[Scope], Reflector[Any]] | None = None,
        on_scope_retired: Callable[[Scope], None] = lambda scope: None,
    ) -> None:
        """Create the watches. `consumers` get the objects of their resource, too, one consumer for each watch.

        `make_scope_watch` creates one more watch for each namespace, or for all. `on_scope_retired` is called when the
        watches of a namespace, or of all, have been stopped.

        `on_secret_read` is called when `has_read_secret` becomes True for a Secret. `on_not_served_changed` is called
        when `Store.not_served` changed. With `all_connectors`, the Connectors of all namespaces are watched, even if
        they are not served. With `access_objects`, policies, requests, approvals and locks are watched, too. An API
        server without these kinds has none of them.
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
        self._all_connectors = all_connectors
        self._access_objects = access_objects
        self._system_namespace = system_namespace
        self._make_scope_watch = make_scope_watch
        self._on_scope_retired = on_scope_retired
        self._namespaces = self._requested_namespaces = _normalise(namespaces)
        """Namespaces that the store serves, and those that it is to serve. None means all."""
        self._has_request = asyncio.Event()
        self._watches: list[_Watch] = []
        self._watches_by_scope: dict[Scope, list[_Watch]] = {}
        """The watches that are stopped when a namespace, or all, are not served any more."""
        self._change_watches: dict[Scope, _Watch] = {}
        self._token_sinks: dict[Scope, list[StoreSink]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._task_by_reflector: dict[Reflector[Any], asyncio.Task[Never]] = {}
        self._add_watch(CONNECTOR_CLASSES)
        self._add_watch(CLUSTER_ROLES)
        self._add_watch(SECRETS, system_namespace, label_selector=CA_SECRETS, required_by_all=True)
        if access_objects:
            self._add_watch(NAMESPACES)
            # They hold for all namespaces.
            self._add_watch(ACCESS_LOCKS, system_namespace, is_optional=True, required_by_all=True)
        if all_connectors:
            self._add_watch(CONNECTORS)
        for scope in _scopes(self._namespaces):
            self._add_scope(scope)
        store.serve_only(self._namespaces)
        store.expect(_NAMED_SECRETS)
        self._named_secrets = NamedSecrets(
            client,
            store,
            self._parse,
            self._is_watched_by_type,
            self._make_change_watch,
            scope_of=self._scope_of,
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
        for watch in self._watches:
            if watch.required_by is None or watch.required_by not in self._store.not_served:
                kind = watch.reflector.kind
                ages[kind] = max(ages.get(kind, 0.0), watch.reflector.age(now))
        return ages

    def serve(self, namespaces: Iterable[str] | None) -> None:
        """Serve these namespaces from now on, or all.

        A namespace that is left out is not served any more at once. A new one is served when its watches have been
        listed or refused. The others are not affected.
        """
        self._requested_namespaces = _normalise(namespaces)
        self._has_request.set()

    async def run(self) -> Never:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for watch in self._watches:
                self._start(watch)
            for watch in tuple(self._watches):
                await watch.answered.wait()
            self._update_not_served()
            # Only the synced watches tell which Secrets need no read.
            tasks.create_task(self._named_secrets.run())
            await self._named_secrets.initial_reads_done.wait()
            self._store.remove_source(_NAMED_SECRETS)
            self.synced.set()
            while True:
                self._follow_request()
                self._update_not_served()
                is_pending = self._namespaces != self._requested_namespaces
                with suppress(TimeoutError):
                    async with asyncio.timeout(PENDING_INTERVAL if is_pending else CHECK_INTERVAL):
                        await self._has_request.wait()
        raise AssertionError("a reflector ended")

    def _follow_request(self) -> None:
        """Start the watches of new namespaces. When they are listed, stop those of the others."""
        self._has_request.clear()
        requested = self._requested_namespaces
        if requested == self._namespaces:
            # A request that was withdrawn may have left watches.
            self._retire_all_but(requested)
            return
        self._store.serve_only(_served_meanwhile(self._namespaces, requested))
        for scope in _scopes(requested):
            if scope not in self._watches_by_scope:
                for watch in self._add_scope(scope):
                    self._start(watch)
        if all(watch.answered.is_set() for scope in _scopes(requested) for watch in self._watches_by_scope[scope]):
            self._namespaces = requested
            self._retire_all_but(requested)
            self._update_not_served()
            self._store.serve_only(requested)
            self._on_not_served_changed()

    def _start(self, watch: _Watch) -> None:
        if self._tasks is not None:
            self._task_by_reflector[watch.reflector] = self._tasks.create_task(watch.reflector.run())

    def _retire_all_but(self, namespaces: tuple[str, ...] | None) -> None:
        for scope in self._watches_by_scope.keys() - set(_scopes(namespaces)):
            self._token_sinks.pop(scope, None)
            for watch in self._watches_by_scope.pop(scope):
                self._task_by_reflector.pop(watch.reflector).cancel()
                self._watches.remove(watch)
                if watch.source:
                    self._store.remove_source(watch.source)
            self._named_secrets.retire(scope)
            if scope in self._change_watches:
                self._watches.remove(self._change_watches.pop(scope))
            if scope is not None:
                self._store.set_not_served(scope, None)
            self._on_scope_retired(scope)

    def _update_not_served(self) -> None:
        """Stop serving what depends on a broken watch, and serve it again when the watch works."""
        previous = dict(self._store.not_served)
        now = asyncio.get_running_loop().time()
        problems: dict[Scope, NotServed] = {}
        for watch in self._watches:
            problem = self._not_served_reason(watch.required_by, watch.reflector, now)
            if problem is not None:
                problems.setdefault(watch.required_by, problem)
        for scope in (None, *(self._namespaces or ())):
            self._store.set_not_served(scope, problems.get(scope))
            if scope in problems:
                for watch in self._watches:
                    if watch.required_by == scope:
                        self._store.stop_expecting(watch.source)
        if self._store.not_served != previous:
            self._on_not_served_changed()

    def _not_served_reason(self, scope: Scope, reflector: Reflector[Any], now: float) -> NotServed | None:
        is_refused = reflector.refusal is not None
        if not reflector.synced.is_set():
            return namespace_not_readable(scope) if scope is not None and is_refused else None
        if reflector.age(now) <= self._stale_after:
            return None
        if scope is not None and is_refused:
            return namespace_not_readable(scope)
        return not_watched(reflector.kind, self._stale_after, refused=is_refused)

    def _add_scope(self, scope: Scope) -> list[_Watch]:
        """Add the watches of a namespace, or of all, and return them."""
        previous_count = len(self._watches)
        if not self._all_connectors:
            self._add_watch(CONNECTORS, scope)
        self._token_sinks[scope] = [self._add_watch(SECRETS, scope, field_selector=each) for each in SECRET_SELECTORS]
        if self._access_objects:
            for resource in (ACCESS_POLICIES, ACCESS_REQUESTS, ACCESS_APPROVALS):
                self._add_watch(resource, scope, is_optional=True)
            if scope != self._system_namespace:
                self._add_watch(ACCESS_LOCKS, scope, is_optional=True)
        if self._make_scope_watch is not None:
            self._watches.append(_Watch(reflector=self._make_scope_watch(scope), required_by=scope))
        self._watches_by_scope[scope] = self._watches[previous_count:]
        return self._watches_by_scope[scope]

    def _add_watch(
        self,
        resource: Resource,
        namespace: Scope = None,
        *,
        field_selector: str = "",
        label_selector: str = "",
        required_by_all: bool = False,
        is_optional: bool = False,
    ) -> StoreSink:
        """Add a watch, which the store waits for at first. With `required_by_all`, all namespaces depend on it."""
        source = " ".join(filter(None, (resource.kind, namespace, field_selector, label_selector)))
        if not self.synced.is_set():
            self._store.expect(source)
        sink = StoreSink(self._store, source)
        extra_consumers = [self._consumers[resource](namespace)] if resource in self._consumers else []
        fork = FanOutSink((self._parse, sink), *extra_consumers)
        reflector = Reflector(
            self._client,
            resource,
            fork.parse,
            fork,
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
            watch_timeout=self._watch_timeout,
            on_restart=self._on_restart,
            is_optional=is_optional,
        )
        scope = None if required_by_all else namespace
        self._watches.append(_Watch(reflector=reflector, required_by=scope, source=source))
        return sink

    def _make_change_watch(self, cache: OnDemandCache, scope: Scope) -> Reflector[ObjectVersion]:
        """Return a reflector that reports which Secrets changed, without those that another watch covers."""
        reflector = cache.make_watch(
            scope, field_selector=_OTHER_TYPES, watch_timeout=self._watch_timeout, on_restart=self._on_restart
        )
        self._change_watches[scope] = _Watch(reflector=reflector, required_by=scope)
        self._watches.append(self._change_watches[scope])
        return reflector

    def _scope_of(self, key: ObjectKey) -> Scope:
        """Return the scope of the watches that cover an object."""
        return key.namespace if key.namespace in self._watches_by_scope else None

    def _is_watched_by_type(self, key: ObjectKey) -> bool:
        return any((Secret, key) in sink.identities for sinks in self._token_sinks.values() for sink in sinks)


def _normalise(namespaces: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if namespaces is None else tuple(sorted(set(namespaces)))


def _scopes(namespaces: tuple[str, ...] | None) -> Sequence[Scope]:
    return (None,) if namespaces is None else namespaces


def _served_meanwhile(current: tuple[str, ...] | None, requested: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return what is served until the watches of the requested namespaces have been listed."""
    if current is None:
        return requested
    return current if requested is None else tuple(each for each in current if each in requested)
