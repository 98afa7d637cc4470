"""What the driver knows of the cluster: classes and the proxy's CA by watches; of the Connectors and their Services
those that volumes of its node name; access by reviews.

It reads no Secret and no status. Settings are read once, at start.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Never

from connector_csi.metrics import CsiMetrics
from connector_csi.on_demand_cache import READ_JITTER, OnDemandCache
from connector_store import logs
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import (
    ALIAS_SELECTOR,
    alias_service_name,
    connector_of_alias,
    parse_service,
)
from connector_store.domain.objects.credential_kinds import is_supported
from connector_store.domain.objects.models import Connector, InvalidConnector
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.domain.status.rotation_plan import PUBLISHED_CA_KEY
from connector_store.domain.status.serving import not_watched
from connector_store.kube.access import KubeAccess
from connector_store.kube.aliases import Aliases
from connector_store.kube.client import KubeClient
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import CONFIG_MAPS, CONNECTOR_CLASSES, CONNECTORS, SERVICES
from connector_store.kube.shared_settings import read_settings
from connector_store.kube.sinks import StoreSink, make_parser, object_reflector
from connector_store.store import Store, StoreObject

logger = logging.getLogger(__name__)

_DEFAULTS: Final = Settings()


class ClusterCache:
    """Filled by `run`; everything else answers at once."""

    def __init__(
        self, client: KubeClient, environ: Mapping[str, str], metrics: CsiMetrics, *, read_jitter: float = READ_JITTER
    ) -> None:
        """`spread` is in seconds: what has changed is read within, as other nodes read it too."""
        self._client = client
        self._read_jitter = read_jitter
        self._environ = environ
        self._metrics = metrics
        self._store = Store(expected=(CONNECTOR_CLASSES.kind,))
        self._parse = make_parser(_DEFAULTS.system_namespace)
        self._connectors: OnDemandCache | None = None
        self._aliases: Aliases | None = None
        self._services: OnDemandCache | None = None
        self._watches: list[Reflector[Any]] = []
        self.settings = _DEFAULTS
        self.access: Access = self._make_access("")
        self.ca: bytes | None = None
        """PEM of the proxy's CAs; None while there is no such ConfigMap."""
        self.synced = asyncio.Event()
        self.not_synced_reason = "the settings are not read yet"
        """Why it is not synced."""

    @property
    def stale_reason(self) -> str | None:
        """Why what is known of the cluster cannot be relied on; None if it can."""
        now = asyncio.get_running_loop().time()
        old = (each for each in self._watches if each.age(now) > self.settings.stale_after)
        watch = next(old, None)
        if watch is None:
            return None
        return not_watched(watch.kind, self.settings.stale_after, refused=watch.refusal is not None).message

    async def load(self, keys: Iterable[ObjectKey]) -> None:
        """Returns when those Connectors, and their Services, have been read; from now on they are followed."""
        connector_keys = tuple(keys)
        service_keys = tuple(each for key in connector_keys if (each := _service_key(key)) is not None)
        requests = ((self._connectors, connector_keys), (self._services, service_keys))
        await asyncio.gather(*(kind.load(names) for kind, names in requests if kind is not None))

    def connector(self, key: ObjectKey) -> Connector | InvalidConnector | None:
        """None also for a Connector of a class that is not ours, and for one that nobody has asked to `know` lately."""
        self._touch(key)
        connector = self._store.connector(key)
        if connector is None or not is_supported(connector, self._store.connector_class(connector.class_name)):
            return None
        return connector

    def is_alias_verified(self, key: ObjectKey) -> bool:
        """True if the Connector's own Service is known to lead to the proxy."""
        connector = self.connector(key)
        return connector is not None and self._aliases is not None and self._aliases.has_alias(key, connector.uid)

    async def run(self) -> Never:
        """ParseError if the environment's settings are wrong; what else goes wrong is tried again."""
        # A wrong ConfigMap is waited for: without a driver that runs, no pod of the node could end.
        self.settings = await read_settings(
            self._client, explicit={}, environ=self._environ, until_valid=True, on_problem=self._set_not_synced_reason
        )
        logs.set_format(self.settings.log_format)
        self._set_not_synced_reason(
            "the Connectors of the cluster are not listed yet; the log says what the API server says"
        )
        self.access = self._make_access(await self._client.issuer())
        static_reflectors: list[Reflector[Any]] = [
            self._class_reflector(),
            self._config_map_reflector(self.settings.ca_configmap, self._on_ca_changed),
        ]
        caches = self._make_caches()
        reflectors = [*static_reflectors, *(each.watch for each in caches)]
        async with asyncio.TaskGroup() as tasks:
            for watch in static_reflectors:
                tasks.create_task(watch.run())
            for kind in caches:
                tasks.create_task(kind.run())
            for reflector in reflectors:
                await reflector.synced.wait()
            self._watches = reflectors
            for name in {each.kind for each in reflectors}:
                self._metrics.watch_age.labels(name).set_function(partial(self._watch_age, name))
            self.synced.set()
            self._metrics.synced.set(1)
        raise AssertionError("a reflector ended")

    def _make_caches(self) -> list[OnDemandCache]:
        make_cache = partial(
            OnDemandCache, self._client, watch_timeout=self.settings.watch_timeout, read_jitter=self._read_jitter
        )
        self._parse = make_parser(self.settings.system_namespace)
        self._connectors = make_cache(CONNECTORS, self._on_connector_read)
        if self.settings.proxy_host is None:
            return [self._connectors]
        self._aliases = Aliases(self.settings.proxy_host)
        self._services = make_cache(SERVICES, self._on_service_read, label_selector=ALIAS_SELECTOR)
        return [self._connectors, self._services]

    def _touch(self, key: ObjectKey) -> None:
        if self._connectors is not None:
            self._connectors.touch(key)
        service_key = _service_key(key)
        if self._services is not None and service_key is not None:
            self._services.touch(service_key)

    def _on_connector_read(self, key: ObjectKey, raw: RawObject | None) -> None:
        connector = self._parse(raw) if raw is not None else None
        if connector is None:
            self._store.remove_source(f"{CONNECTORS.kind} {key}")
        else:
            self._store.replace(f"{CONNECTORS.kind} {key}", [connector])

    def _on_service_read(self, key: ObjectKey, raw: RawObject | None) -> None:
        if self._aliases is not None:
            self._aliases.update(connector_of_alias(key), parse_service(raw) if raw is not None else None)

    def _watch_age(self, kind: str) -> float:
        """Of the oldest watch of that kind."""
        now = asyncio.get_running_loop().time()
        return max(each.age(now) for each in self._watches if each.kind == kind)

    def _set_not_synced_reason(self, reason: str) -> None:
        self.not_synced_reason = reason

    def _make_access(self, issuer: str) -> Access:
        return KubeAccess(
            self._client,
            audience=self.settings.audience,
            rule=self.settings.access,
            # Who was just granted the right is served by kubelet's next try.
            refusal_ttl=0,
            # All pods of a node that starts come at once, and kubelet sends nobody else's tokens.
            issuers=[issuer],
            on_review=lambda kind, result: self._metrics.reviews.labels(kind, result).inc(),
        )

    def _class_reflector(self) -> Reflector[StoreObject]:
        return Reflector(
            self._client,
            CONNECTOR_CLASSES,
            make_parser(self.settings.system_namespace),
            StoreSink(self._store, CONNECTOR_CLASSES.kind),
            watch_timeout=self.settings.watch_timeout,
        )

    def _config_map_reflector(self, name: str, on_change: Callable[[RawObject | None], None]) -> Reflector[RawObject]:
        key = ObjectKey(self.settings.system_namespace, name)
        return object_reflector(self._client, CONFIG_MAPS, key, on_change, watch_timeout=self.settings.watch_timeout)

    def _on_ca_changed(self, raw: RawObject | None) -> None:
        text = ((raw or {}).get("data") or {}).get(PUBLISHED_CA_KEY)
        # A ConfigMap that is deleted for a moment takes nothing away from pods that start meanwhile.
        if text:
            self.ca = str(text).encode()


def _service_key(connector: ObjectKey) -> ObjectKey | None:
    name = alias_service_name(connector.name)
    return ObjectKey(connector.namespace, name) if name is not None else None
