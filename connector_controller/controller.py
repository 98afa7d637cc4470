"""One term as leader: watches fill the caches, changes enqueue keys, and workers reconcile them.

The term's objects exist only as long as the term. The API server stores what must outlive it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Never

from connector_controller.ca_rotation import CaRotation
from connector_controller.classes import ClassReconciler
from connector_controller.connectors import ConnectorReconciler
from connector_controller.event_recorder import EventRecorder
from connector_controller.metrics import ControllerMetrics
from connector_controller.observed import (
    ObjectCache,
    ObservedClass,
    ObservedConnector,
    parse_observed_class,
    parse_observed_connector,
)
from connector_controller.probe_schedule import ProbeSchedule
from connector_controller.proxy_services import ProxyServices
from connector_controller.trust_bundle import TrustBundle
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.kubeconfig.proxy_service import ALIAS_SELECTOR, parse_service
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.credential_kinds import is_supported
from connector_store.domain.status.conditions import ProbeOutcomes
from connector_store.kube.client import KubeClient
from connector_store.kube.cluster_watches import ClusterWatches
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import CONFIG_MAPS, CONNECTOR_CLASSES, CONNECTORS, SECRETS, SERVICES
from connector_store.kube.sinks import object_reflector
from connector_store.kube.work_queue import WorkQueue, run_workers
from connector_store.probes import TIMEOUT, Prober, ProbeRequest
from connector_store.resolver import Resolver
from connector_store.store import Store
from connector_store.target_client import TargetClient
from connector_store.token_manager import TokenManager
from connector_store.trust import TrustStore

WORKERS: Final = 16

_CA_KEY: Final = "ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """Options from the command line. `instance` names this process in events. `ca_file` is the content of `ca-file`."""

    instance: str
    ca_file: bytes | None = None
    workers: int = WORKERS


class Term:
    """One term as leader. `run` works until it is cancelled. `synced` is True when all caches are filled."""

    def __init__(
        self, client: KubeClient, settings: Settings, options: ControllerOptions, metrics: ControllerMetrics
    ) -> None:
        self.synced = False
        self._client = client
        self._settings = settings
        self._options = options
        self._metrics = metrics
        self._store = Store()
        self._store.set_ca_file(options.ca_file)
        self._trust = TrustStore()
        self._queue: WorkQueue[ObjectKey] = WorkQueue("connectors")
        self._class_queue: WorkQueue[str] = WorkQueue("classes")
        self._ca_queue: WorkQueue[str] = WorkQueue("ca")
        self._observed_connectors: ObjectCache[ObjectKey, ObservedConnector] = ObjectCache(
            lambda each: each.key, self._queue.add
        )
        self._observed_classes: ObjectCache[str, ObservedClass] = ObjectCache(
            lambda each: each.key, self._class_queue.add
        )
        self._services = ProxyServices(client, settings, self._queue.add)
        self._ca_rotation = CaRotation(client, settings, now=time.time, on_published=self._on_ca_published)
        self._bundle = TrustBundle(
            client, settings, lambda: self._ca_rotation.published_pem, on_restart=self._on_watch_restart
        )
        self._events = EventRecorder(client, options.instance, now=time.time)
        self._watches = self._make_watches()

    async def run(self) -> Never:
        resolver = Resolver()
        targets = TargetClient(self._trust, self._make_policy(()), resolver, user_agent="connectors-controller")
        prober = Prober(targets, TokenManager(targets, timeout=TIMEOUT))
        schedule = ProbeSchedule(self._measure_probes(prober), self._queue.add, interval=self._settings.probe_interval)
        reflectors = self._make_reflectors(targets)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watches.run())
                for reflector in reflectors:
                    tasks.create_task(reflector.run())
                for reflector in reflectors:
                    await self._wait_synced(reflector)
                await self._watches.synced.wait()
                await self._start_workers(tasks, schedule)
        finally:
            schedule.close()
            resolver.close()
            # Another process may lead now. Its metrics and these would be added up.
            self._metrics.end_term()
        raise AssertionError("a worker ended")

    def not_ready_reason(self) -> str | None:
        """Return what keeps the term from working, or None."""
        if not self.synced:
            return "the caches are not filled yet"
        not_served = self._store.not_served.get(None)
        return not_served.message if not_served is not None else None

    async def _wait_synced(self, reflector: Reflector[Any]) -> None:
        """Wait for the reflector's first state. In a namespace of the setting `namespaces`, a refusal also counts."""
        may_be_refused = self._settings.namespaces is not None and reflector.namespace in self._settings.namespaces
        await (reflector.synced_or_refused if may_be_refused else reflector.synced).wait()

    def ready_counts(self) -> Mapping[str, int]:
        """Return the number of supported Connectors by the status of their condition Ready."""
        counts = {"True": 0, "False": 0, "Unknown": 0}
        for each in self._own_connectors():
            ready = each.status.ready
            counts[ready.status if ready else "Unknown"] += 1
        return counts

    def update_gauges(self) -> None:
        """Update the gauges for a scrape."""
        for ready, count in self.ready_counts().items():
            self._metrics.connectors.labels(ready).set(count)
        for queue in (self._queue, self._class_queue, self._ca_queue, self._bundle.queue):
            self._metrics.queue_depth.labels(queue.name).set(len(queue))
        # A kind without any served namespace has no age.
        self._metrics.watch_age.clear()
        for kind, age in self._watches.watch_ages().items():
            self._metrics.watch_age.labels(kind).set(age)
        self._metrics.namespaces_not_served.set(len(set(self._store.not_served) - {None}))
        self._metrics.events_dropped.set(self._events.dropped_count)
        self._metrics.credential_expiry.clear()
        for each in self._own_connectors():
            if each.status.credential_expires_at is not None:
                self._metrics.credential_expiry.labels(str(each.key)).set(each.status.credential_expires_at)
        self._metrics.ca_expiry.set(self._ca_rotation.expires_at or 0)

    def _own_connectors(self) -> Iterator[ObservedConnector]:
        """Yield the Connectors that this controller supports. It does not write the status of others."""
        return (
            each
            for each in self._observed_connectors
            if is_supported(each.connector, self._store.connector_class(each.connector.class_name))
        )

    async def _start_workers(self, tasks: asyncio.TaskGroup, schedule: ProbeSchedule) -> None:
        tasks.create_task(self._events.run())
        self._ca_queue.add(_CA_KEY)
        self._class_queue.add(K8S.name)
        tasks.create_task(run_workers(self._ca_queue, self._measure_reconciles("ca", self._ca_rotation.reconcile)))
        tasks.create_task(self._bundle.run(self._measure_reconciles("bundle", self._bundle.reconcile)))
        classes = ClassReconciler(self._client, self._observed_classes, now=_now)
        tasks.create_task(run_workers(self._class_queue, self._measure_reconciles("classes", classes.reconcile)))
        connectors = self._make_connector_reconciler(schedule)
        reconcile = self._measure_reconciles("connectors", connectors.reconcile)
        tasks.create_task(run_workers(self._queue, reconcile, workers=self._options.workers))
        self._store.subscribe(lambda keys: self._enqueue(keys))
        self._enqueue_all()
        self.synced = True

    def _make_connector_reconciler(self, schedule: ProbeSchedule) -> ConnectorReconciler:
        return ConnectorReconciler(
            self._client,
            self._store,
            self._observed_connectors,
            services=self._services,
            probe_schedule=schedule,
            events=self._events,
            trust=self._trust,
            settings=self._settings,
            has_read_secret=self._watches.has_read_secret,
            ca_pem=lambda: self._ca_rotation.published_pem,
            now=_now,
        )

    def _make_watches(self) -> ClusterWatches:
        return ClusterWatches(
            self._client,
            self._store,
            system_namespace=self._settings.system_namespace,
            namespaces=self._settings.namespaces,
            # Watch all, because the status of a Connector says if its namespace is not served.
            all_connectors=True,
            watch_timeout=self._settings.watch_timeout,
            stale_after=self._settings.stale_after,
            on_restart=self._on_watch_restart,
            on_secret_read=self._on_secret_read,
            on_not_served_changed=self._enqueue_all,
            consumers={
                CONNECTORS: (parse_observed_connector, self._observed_connectors),
                CONNECTOR_CLASSES: (parse_observed_class, self._observed_classes),
            },
        )

    def _make_reflectors(self, targets: TargetClient) -> list[Reflector[Any]]:
        settings = self._settings
        watch_options: dict[str, Any] = {"watch_timeout": settings.watch_timeout, "on_restart": self._on_watch_restart}
        config_map = ObjectKey(settings.system_namespace, settings.ca_configmap)
        reflectors: list[Reflector[Any]] = [
            object_reflector(self._client, CONFIG_MAPS, config_map, self._on_config_map_changed, **watch_options),
        ]
        for namespace in settings.namespaces or (None,):
            cache = self._services.cache_of(namespace)
            reflectors.append(
                Reflector(
                    self._client,
                    SERVICES,
                    parse_service,
                    cache,
                    namespace=namespace,
                    label_selector=ALIAS_SELECTOR,
                    **watch_options,
                )
            )
        if settings.ca_secret is not None:
            secret = ObjectKey(settings.system_namespace, settings.ca_secret)
            reflectors.append(
                object_reflector(self._client, SECRETS, secret, self._on_ca_secret_changed, **watch_options)
            )
        if settings.proxy_service is not None:
            reflectors.append(
                object_reflector(
                    self._client,
                    SERVICES,
                    settings.proxy_service,
                    lambda raw: self._on_proxy_service_changed(targets, raw),
                    **watch_options,
                )
            )
        return reflectors

    def _on_ca_published(self) -> None:
        self._bundle.enqueue()
        self._enqueue_all()

    def _on_ca_secret_changed(self, raw: Mapping[str, Any] | None) -> None:
        self._ca_rotation.secret = raw
        self._ca_queue.add(_CA_KEY)

    def _on_config_map_changed(self, raw: Mapping[str, Any] | None) -> None:
        self._ca_rotation.config_map = raw
        self._ca_queue.add(_CA_KEY)

    def _on_proxy_service_changed(self, targets: TargetClient, raw: Mapping[str, Any] | None) -> None:
        self._services.proxy_exists = raw is not None
        addresses = ((raw or {}).get("spec") or {}).get("clusterIPs") or ()
        targets.policy = self._make_policy(tuple(each for each in addresses if each != "None"))
        self._enqueue_all()

    def _make_policy(self, proxy_addresses: tuple[str, ...]) -> AddressPolicy:
        settings = self._settings
        return AddressPolicy.from_settings(
            allow=settings.targets_allow,
            deny=settings.targets_deny,
            in_cluster=settings.in_cluster,
            own_addresses=proxy_addresses,
        )

    def _on_secret_read(self, secret: ObjectKey) -> None:
        for each in self._observed_connectors:
            if each.key.namespace == secret.namespace:
                self._queue.add(each.key)

    def _enqueue_all(self) -> None:
        self._enqueue([each.key for each in self._observed_connectors])

    def _enqueue(self, keys: Any) -> None:
        for key in keys:
            self._queue.add(key)

    def _on_watch_restart(self, kind: str) -> None:
        self._metrics.watch_restarts.labels(kind).inc()

    def _measure_probes(self, prober: Prober) -> Callable[[ProbeRequest], Awaitable[ProbeOutcomes]]:
        async def probe(request: ProbeRequest) -> ProbeOutcomes:
            with self._metrics.probe_seconds.time():
                outcomes = await prober.probe(request)
            self._metrics.probes.labels(outcomes.failed_probe or "ready").inc()
            return outcomes

        return probe

    def _measure_reconciles[K](
        self, name: str, reconcile: Callable[[K], Awaitable[float | None]]
    ) -> Callable[[K], Awaitable[float | None]]:
        reconcile_counter, seconds = self._metrics.reconciles, self._metrics.reconcile_seconds.labels(name)

        async def measured(key: K) -> float | None:
            outcome = "error"
            with seconds.time(), contextlib.ExitStack() as stack:
                stack.callback(lambda: reconcile_counter.labels(name, outcome).inc())
                requeue_after = await reconcile(key)
                outcome = "ok"
            return requeue_after

        return measured


def _now() -> datetime:
    return datetime.now(UTC)
