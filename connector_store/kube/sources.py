"""A cluster -> the store: every watch that the proxy and the CSI driver need, and no more than their roles allow."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Never

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.objects.auth import SECRET_SELECTORS, SECRET_TYPES
from connector_store.domain.objects.cursor import RawObject
from connector_store.domain.status.serving import NotServed, namespace_not_readable, not_watched
from connector_store.kube.client import KubeClient
from connector_store.kube.named_secrets import NamedSecrets
from connector_store.kube.reflector import WATCH_TIMEOUT, Reflector, Sink
from connector_store.kube.resources import CA_SECRETS, CLUSTER_ROLES, CONNECTOR_CLASSES, CONNECTORS, SECRETS, Resource
from connector_store.kube.sinks import Fork, Reader, StoreSink, parser
from connector_store.store import Store, StoreObject

_OTHERS: Final = ",".join(f"type!={each}" for each in SECRET_TYPES)
_NAMED: Final = "Secrets that Connectors name"

STALE_AFTER: Final = Settings().stale_after

LOOK: Final = 1.0
"""Seconds between two looks at the watches, and what may still be served of what they brought."""


class ClusterSource:
    """Fills `store`, which is synced when all of these have listed.

    That is Connectors, classes, ClusterRoles, Secrets by type, CA Secrets.

    Connectors are watched in `namespaces`, or in all of them; `run` never returns. A namespace that the API server
    lets us read no more, or not at all, is withheld by the store and costs no other one anything: it is tried again for
    ever. So is, after `stale_after` seconds, all that depends on a watch that does not work.
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
        on_known: Callable[[ObjectKey], None] = lambda key: None,
        on_withheld: Callable[[], None] = lambda: None,
        readers: Mapping[Resource, Reader] = MappingProxyType({}),
    ) -> None:
        """`on_known` gets a Secret when `knows` turns true for it; `readers` share the watches of their resources.

        With `all_connectors` the Connectors of all namespaces are watched, whichever are served. `on_withheld` is
        called when what the store withholds has changed.
        """
        self.synced = asyncio.Event()
        self._client = client
        self._store = store
        self._watch_timeout = watch_timeout
        self._stale_after = stale_after
        self._on_restart = on_restart
        self._on_withheld = on_withheld
        self._readers = readers
        self._parse: Callable[[RawObject], StoreObject | None] = parser(system_namespace)
        self._namespaces = None if namespaces is None else tuple(sorted(set(namespaces)))
        self._watches: list[tuple[str | None, Reflector[Any]]] = []
        """Each with the namespace that depends on it, None: all do."""
        self._expected: dict[str | None, set[str]] = {}
        self._tokens: list[StoreSink] = []
        self._listed(CONNECTOR_CLASSES)
        self._listed(CLUSTER_ROLES)
        self._listed(SECRETS, system_namespace, label_selector=CA_SECRETS, everybodys=True)
        scopes = (None,) if self._namespaces is None else self._namespaces
        for scope in (None,) if all_connectors else scopes:
            self._listed(CONNECTORS, scope)
        for scope in scopes:
            self._tokens += [self._listed(SECRETS, scope, field_selector=each) for each in SECRET_SELECTORS]
        store.serve_only(self._namespaces)
        store.expect(_NAMED)
        self._named_secrets = NamedSecrets(
            client,
            store,
            self._parse,
            self._have_token,
            self._feed,
            by_namespace=self._namespaces is not None,
            on_known=on_known,
        )

    def knows(self, key: ObjectKey) -> bool:
        """Whether a Secret that a Connector names, and the store lacks, is known to be absent."""
        return self._named_secrets.knows(key)

    def ages(self) -> Mapping[str, float]:
        """Seconds since the objects of each kind were last known to be those of the API server, the oldest watch's.

        Namespaces that are withheld are left out: `Store.withheld` counts them.
        """
        now = asyncio.get_running_loop().time()
        found: dict[str, float] = {}
        for scope, watch in self._watches:
            if scope is None or scope not in self._store.not_served:
                found[watch.kind] = max(found.get(watch.kind, 0.0), watch.age(now))
        return found

    async def run(self) -> Never:
        async with asyncio.TaskGroup() as tasks:
            for _, watch in self._watches:
                tasks.create_task(watch.run())
            for scope, watch in self._watches:
                await (watch.synced if scope is None else watch.settled).wait()
            self._look()
            # Only now is it known which Secrets the others bring.
            tasks.create_task(self._named_secrets.run())
            await self._named_secrets.settled.wait()
            self._store.remove_source(_NAMED)
            self.synced.set()
            while True:
                await asyncio.sleep(LOOK)
                self._look()
        raise AssertionError("a reflector ended")

    def _look(self) -> None:
        """Withhold what cannot be relied on, and serve again what can."""
        before = dict(self._store.not_served)
        now = asyncio.get_running_loop().time()
        problems: dict[str | None, NotServed] = {}
        for scope, watch in self._watches:
            problem = self._problem(scope, watch, now)
            if problem is not None:
                problems.setdefault(scope, problem)
        for scope in (None, *(self._namespaces or ())):
            self._store.set_not_served(scope, problems.get(scope))
            if scope in problems:
                for source in self._expected.get(scope, ()):
                    self._store.stop_expecting(source)
        if self._store.not_served != before:
            self._on_withheld()

    def _problem(self, scope: str | None, watch: Reflector[Any], now: float) -> NotServed | None:
        refused = watch.refusal is not None
        if not watch.synced.is_set():
            return namespace_not_readable(scope) if scope is not None and refused else None
        if watch.age(now) <= self._stale_after:
            return None
        if scope is not None and refused:
            return namespace_not_readable(scope)
        return not_watched(watch.kind, self._stale_after, refused=refused)

    def _listed(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        field_selector: str = "",
        label_selector: str = "",
        everybodys: bool = False,
    ) -> StoreSink:
        """A watch that the store waits for; `everybodys`: all namespaces depend on it, though it is of one."""
        source = " ".join(filter(None, (resource.kind, namespace, field_selector, label_selector)))
        scope = None if everybodys else namespace
        self._store.expect(source)
        self._expected.setdefault(scope, set()).add(source)
        sink = StoreSink(self._store, source)
        shared = [self._readers[resource]] if resource in self._readers else []
        fork = Fork((self._parse, sink), *shared)
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

    def _feed(self, scope: str | None, sink: Sink[ObjectKey]) -> Reflector[ObjectKey]:
        """Tells which Secrets change, but for those that another watch brings."""
        reflector = Reflector(
            self._client,
            SECRETS,
            _name_of,
            sink,
            namespace=scope,
            field_selector=_OTHERS,
            watch_timeout=self._watch_timeout,
            on_restart=self._on_restart,
            changes_only=True,
        )
        self._watches.append((scope, reflector))
        return reflector

    def _have_token(self, key: ObjectKey) -> bool:
        return any(key in sink.names for sink in self._tokens)


def _name_of(raw: RawObject) -> ObjectKey:
    metadata = raw["metadata"]
    return ObjectKey(metadata["namespace"], metadata["name"])
