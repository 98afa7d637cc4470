"""The driver's view of the cluster: watched classes and proxy CA, Connectors and Services on demand, access by review.

The driver reads only those Connectors, and their Services, that volumes of its node name. It reads no Secret and no
status of a Connector. It follows the live settings.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, Never

from connector_csi.metrics import CsiMetrics
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
from connector_store.kube.on_demand import OnDemandCache
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import CONFIG_MAPS, CONNECTOR_CLASSES, CONNECTORS, SERVICES
from connector_store.kube.review import AccessRequestSupport
from connector_store.kube.shared_settings import SharedSettings
from connector_store.kube.sinks import StoreSink, make_parser, object_reflector
from connector_store.store import Store, StoreObject

logger = logging.getLogger(__name__)

_DEFAULTS: Final = Settings()

MAX_ENTRIES: Final = 4096
"""Maximum number of cached objects of one kind. The least recently used is evicted first, and read again on request."""
UNUSED_TIMEOUT: Final = 900.0
"""Seconds after which an unused object is evicted. kubelet causes a use of each volume within 90 seconds."""
READ_JITTER: Final = 2.0
"""Maximum seconds between a change and the read. The nodes that use one object spread their reads over it."""

REVIEW_LIFETIME: Final = 2.0
"""Seconds for which a positive review is reused. Pods of one account that start at the same time share it. kubelet
publishes a volume again after more than that, so each later publish notices a right that was taken away."""


class ClusterCache:
    """In-memory view of the cluster. `run` fills it. Only `load` and `run` wait."""

    def __init__(
        self, client: KubeClient, environ: Mapping[str, str], metrics: CsiMetrics, *, read_jitter: float = READ_JITTER
    ) -> None:
        """Create an empty cache. `read_jitter` is in seconds: a changed object is read after a random part of it."""
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
        """The proxy's CA certificates (PEM). None until their ConfigMap is read."""
        self.synced = asyncio.Event()
        self.not_synced_reason = "the settings are not read yet"
        """Why the cache is not synced. It is meaningful until `synced` is set."""

    @property
    def stale_reason(self) -> str | None:
        """Why the cached state is too old to use, or None if it is not."""
        now = asyncio.get_running_loop().time()
        watch = next((watch for watch in self._watches if watch.age(now) > self.settings.stale_after), None)
        if watch is None:
            return None
        return not_watched(watch.kind, self.settings.stale_after, refused=watch.refusal is not None).message

    async def load(self, keys: Iterable[ObjectKey]) -> None:
        """Read these Connectors and their Services, and follow their changes from now on."""
        connector_keys = tuple(keys)
        service_keys = tuple(name for key in connector_keys if (name := _service_key(key)) is not None)
        requests = ((self._connectors, connector_keys), (self._services, service_keys))
        await asyncio.gather(*(cache.load(cache_keys) for cache, cache_keys in requests if cache is not None))

    def connector(self, key: ObjectKey) -> Connector | InvalidConnector | None:
        """Return a Connector. The result is also None if its class is not ours, or if it was not loaded recently."""
        self._touch(key)
        connector = self._store.connector(key)
        if connector is None or not is_supported(connector, self._store.connector_class(connector.class_name)):
            return None
        return connector

    def is_alias_verified(self, key: ObjectKey) -> bool:
        """Return True if the Connector's own Service was seen to lead to the proxy."""
        connector = self.connector(key)
        return connector is not None and self._aliases is not None and self._aliases.has_alias(key, connector.uid)

    async def run(self) -> Never:
        """Fill the cache until cancelled. Raises ParseError for wrong settings in the environment; retries all else."""
        # A wrong ConfigMap does not end the driver: kubelet needs a running driver to terminate the node's pods.
        shared = SharedSettings(self._client, "connector_csi", explicit={}, environ=self._environ)
        self._apply(await shared.read(until_valid=True, on_problem=self._set_not_synced_reason))
        shared.subscribe(self._apply)
        self._metrics.rejected_settings.set_function(lambda: float(shared.is_rejected))
        self._set_not_synced_reason(
            "the Connectors of the cluster are not listed yet; the log says what the API server says"
        )
        self.access = self._make_access(await self._client.issuer())
        reflectors = self._make_reflectors()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(shared.follow())
            for runnable in (*reflectors, self._connectors, self._services):
                if runnable is not None:
                    tasks.create_task(runnable.run())
            for reflector in reflectors:
                await reflector.synced.wait()
            self._watches = reflectors
            for kind in {reflector.kind for reflector in reflectors}:
                self._metrics.watch_age.labels(kind).set_function(partial(self._watch_age, kind))
            self.synced.set()
            self._metrics.synced.set(1)
        raise AssertionError("a reflector ended")

    def _apply(self, settings: Settings) -> None:
        """Apply the settings at the start, and later the live ones."""
        self.settings = settings
        logs.set_format(settings.log_format)
        self._metrics.unknown_settings.set(len(settings.unknown_keys))

    def _make_reflectors(self) -> list[Reflector[Any]]:
        make_cache = partial(
            OnDemandCache,
            self._client,
            read_jitter=self._read_jitter,
            max_entries=MAX_ENTRIES,
            unused_timeout=UNUSED_TIMEOUT,
        )
        watch_timeout = self.settings.watch_timeout
        ca_key = ObjectKey(self.settings.system_namespace, self.settings.ca_configmap)
        self._parse = make_parser(self.settings.system_namespace)
        self._connectors = make_cache(CONNECTORS, self._on_connector_read)
        reflectors: list[Reflector[Any]] = [
            self._class_reflector(),
            object_reflector(self._client, CONFIG_MAPS, ca_key, self._on_ca_changed, watch_timeout=watch_timeout),
            self._connectors.make_watch(watch_timeout=watch_timeout),
        ]
        if self.settings.proxy_host is not None:
            self._aliases = Aliases(self.settings.proxy_host)
            self._services = make_cache(SERVICES, self._on_service_read)
            reflectors.append(self._services.make_watch(label_selector=ALIAS_SELECTOR, watch_timeout=watch_timeout))
        return reflectors

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
        """Return the age in seconds of the oldest watch of `kind`."""
        now = asyncio.get_running_loop().time()
        return max(watch.age(now) for watch in self._watches if watch.kind == kind)

    def _set_not_synced_reason(self, reason: str) -> None:
        self.not_synced_reason = reason

    def _make_access(self, issuer: str) -> Access:
        return KubeAccess(
            self._client,
            audience=self.settings.audience,
            rule=self.settings.access,
            recheck=REVIEW_LIFETIME,
            # Refusals are not cached, so that kubelet's next try succeeds after the right is granted.
            refusal_ttl=0,
            # When a node starts, all its pods arrive at once. kubelet sends tokens of this cluster's issuer only.
            issuers=[issuer],
            # kubelet replaces a token six minutes before its expiry. The node's clock may be ahead by more.
            now=self._client.clock.now,
            # The driver asks for pods whose ServiceAccount may ask, whether or not refusals have the hint.
            requests=AccessRequestSupport(has_hint=True),
            on_review=lambda kind, result: self._metrics.reviews.labels(kind, result).inc(),
        )

    def _class_reflector(self) -> Reflector[StoreObject]:
        return Reflector(
            self._client,
            CONNECTOR_CLASSES,
            self._parse,
            StoreSink(self._store, CONNECTOR_CLASSES.kind),
            watch_timeout=self.settings.watch_timeout,
        )

    def _on_ca_changed(self, raw: RawObject | None) -> None:
        text = ((raw or {}).get("data") or {}).get(PUBLISHED_CA_KEY)
        # The CA stays if the ConfigMap is deleted for a moment, so that pods can start meanwhile.
        if text:
            self.ca = str(text).encode()


def _service_key(connector: ObjectKey) -> ObjectKey | None:
    name = alias_service_name(connector.name)
    return ObjectKey(connector.namespace, name) if name is not None else None
