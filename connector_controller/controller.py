"""One term as leader: watches fill the caches, changes enqueue keys, and workers reconcile them.

The term's objects exist only as long as the term. The API server stores what must outlive it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Never

from connector_controller.access_objects import AccessCaches, AccessKey, AccessReconciler
from connector_controller.admission_proof import AdmissionProof
from connector_controller.approval_tasks import ApprovalTasks
from connector_controller.ca_rotation import CaRotation
from connector_controller.classes import ClassReconciler
from connector_controller.connector_gauges import ConnectorGauges
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
from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.grants.access_index import AccessClock
from connector_store.domain.kubeconfig.proxy_service import ALIAS_SELECTOR, parse_service
from connector_store.domain.objects.access_objects import AccessRequest
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
_ADMISSION_KEY: Final = "admission"
_TASKS_KEY: Final = "approval-tasks"


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
        self.gauges = ConnectorGauges(metrics)
        self._store = Store(clock=AccessClock(client.clock.now, boot_time))
        self._store.set_ca_file(options.ca_file)
        self._trust = TrustStore()
        self._queue: WorkQueue[ObjectKey] = WorkQueue("connectors")
        self._class_queue: WorkQueue[str] = WorkQueue("classes")
        self._ca_queue: WorkQueue[str] = WorkQueue("ca")
        self._admission_queue: WorkQueue[str] = WorkQueue("admission")
        self._access_queue: WorkQueue[AccessKey] = WorkQueue("access")
        self._access_caches = AccessCaches(self._access_queue.add)
        self._access: AccessReconciler | None = None
        self._observed_connectors: ObjectCache[ObjectKey, ObservedConnector] = ObjectCache(
            lambda each: each.key, self._queue.add
        )
        self._observed_classes: ObjectCache[str, ObservedClass] = ObjectCache(
            lambda each: each.key, self._class_queue.add
        )
        self._services = ProxyServices(client, settings, self._queue.add)
        self._targets: TargetClient | None = None
        self._schedule: ProbeSchedule | None = None
        self._connectors: ConnectorReconciler | None = None
        self._proxy_addresses: tuple[str, ...] = ()
        self._ca_rotation = CaRotation(client, settings, now=time.time, on_published=self._on_ca_published)
        self._bundle = TrustBundle(
            client, settings, lambda: self._ca_rotation.published_pem, on_restart=self._on_watch_restart
        )
        self._events = EventRecorder(client, options.instance, now=time.time)
        self._watches = self._make_watches()

    async def run(self) -> Never:
        resolver = Resolver()
        self._targets = targets = TargetClient(
            self._trust, self._make_policy(), resolver, user_agent="connectors-controller"
        )
        prober = Prober(targets, TokenManager(targets, timeout=TIMEOUT))
        self._schedule = schedule = ProbeSchedule(
            self._measure_probes(prober), self._queue.add, interval=self._settings.probe_interval
        )
        reflectors = self._make_reflectors()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watches.run())
                for reflector in reflectors:
                    tasks.create_task(reflector.run())
                for reflector in reflectors:
                    await reflector.synced.wait()
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

    def follow(self, settings: Settings) -> None:
        """Apply the live settings to what runs."""
        self._settings = settings
        self._watches.serve(settings.namespaces)
        if self._targets is not None:
            self._targets.policy = self._make_policy()
        if self._schedule is not None:
            self._schedule.set_interval(settings.probe_interval)
        if self._connectors is not None:
            self._connectors.settings = settings
        self._enqueue_all()

    def update_gauges(self) -> None:
        """Update the gauges for a scrape. Workers update those of each Connector."""
        self.gauges.show_counts()
        if self._access is not None:
            self._access.counts.show(self._metrics)
        queues = (self._class_queue, self._ca_queue, self._admission_queue, self._access_queue, self._bundle.queue)
        for queue in (self._queue, *queues):
            self._metrics.queue_depth.labels(queue.name).set(len(queue))
        # A kind without any served namespace has no age.
        self._metrics.watch_age.clear()
        for kind, age in self._watches.watch_ages().items():
            self._metrics.watch_age.labels(kind).set(age)
        self._metrics.namespaces_not_served.set(len(set(self._store.not_served) - {None}))
        self._metrics.events_dropped.set(self._events.dropped_count)
        self._metrics.ca_expiry.set(self._ca_rotation.expires_at or 0)
        self._metrics.ca_unusable.set(self._ca_rotation.is_unusable)

    async def _start_workers(self, tasks: asyncio.TaskGroup, schedule: ProbeSchedule) -> None:
        tasks.create_task(self._events.run())
        self._ca_queue.add(_CA_KEY)
        self._class_queue.add(K8S.name)
        tasks.create_task(run_workers(self._ca_queue, self._measure_reconciles("ca", self._ca_rotation.reconcile)))
        approval_tasks = ApprovalTasks(
            self._client,
            self._store.access,
            system_namespace=self._settings.system_namespace,
            events=self._events,
            enqueue=lambda key: self._access_queue.add(AccessKey(AccessRequest, key)),
            wake=lambda: self._admission_queue.add(_TASKS_KEY),
            on_proof=self._enqueue_access_objects,
            start=tasks.create_task,
        )
        self._access = access = AccessReconciler(
            self._client,
            self._store.access,
            self._access_caches,
            tasks=approval_tasks,
            events=self._events,
            enqueue=self._access_queue.add,
            now=self._client.clock.now,
        )
        tasks.create_task(run_workers(self._access_queue, self._measure_reconciles("access", access.reconcile)))
        proof = AdmissionProof(
            self._client, system_namespace=self._settings.system_namespace, on_proof=self._on_admission_proof
        )

        async def prove(key: str) -> float | None:
            return await (approval_tasks if key == _TASKS_KEY else proof).reconcile(key)

        self._admission_queue.add(_ADMISSION_KEY)
        tasks.create_task(run_workers(self._admission_queue, self._measure_reconciles("admission", prove)))
        tasks.create_task(self._bundle.run(self._measure_reconciles("bundle", self._bundle.reconcile)))
        classes = ClassReconciler(self._client, self._observed_classes, now=_now)
        tasks.create_task(run_workers(self._class_queue, self._measure_reconciles("classes", classes.reconcile)))
        self._connectors = connectors = self._make_connector_reconciler(schedule)

        async def count_and_reconcile(key: ObjectKey) -> float | None:
            self._count(key)
            return await connectors.reconcile(key)

        reconcile = self._measure_reconciles("connectors", count_and_reconcile)
        tasks.create_task(run_workers(self._queue, reconcile, workers=self._options.workers))
        self._store.subscribe(self._enqueue)
        self._enqueue_all()
        self.synced = True

    def _count(self, key: ObjectKey) -> None:
        """Count a Connector that this controller supports. It does not write the status of others."""
        observed = self._observed_connectors.get(key)
        if observed is not None and not is_supported(
            observed.connector, self._store.connector_class(observed.connector.class_name)
        ):
            observed = None
        self.gauges.update(key, observed)

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
            access_objects=True,
            watch_timeout=self._settings.watch_timeout,
            stale_after=self._settings.stale_after,
            on_restart=self._on_watch_restart,
            on_secret_read=self._on_secret_read,
            on_not_served_changed=self._enqueue_all,
            consumers={
                CONNECTORS: lambda _: (parse_observed_connector, self._observed_connectors),
                CONNECTOR_CLASSES: lambda _: (parse_observed_class, self._observed_classes),
                **self._access_caches.consumers,
            },
            make_scope_watch=self._make_service_watch,
            on_scope_retired=self._on_scope_retired,
        )

    def _on_scope_retired(self, namespace: str | None) -> None:
        self._services.drop_cache(namespace)
        self._access_caches.drop(namespace)

    def _make_service_watch(self, namespace: str | None) -> Reflector[Any]:
        return Reflector(
            self._client,
            SERVICES,
            parse_service,
            self._services.cache_of(namespace),
            namespace=namespace,
            label_selector=ALIAS_SELECTOR,
            watch_timeout=self._settings.watch_timeout,
            on_restart=self._on_watch_restart,
        )

    def _make_reflectors(self) -> list[Reflector[Any]]:
        settings = self._settings
        watch_options: dict[str, Any] = {"watch_timeout": settings.watch_timeout, "on_restart": self._on_watch_restart}
        config_map = ObjectKey(settings.system_namespace, settings.ca_configmap)
        reflectors: list[Reflector[Any]] = [
            object_reflector(self._client, CONFIG_MAPS, config_map, self._on_config_map_changed, **watch_options),
        ]
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
                    self._on_proxy_service_changed,
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

    def _on_proxy_service_changed(self, raw: Mapping[str, Any] | None) -> None:
        self._services.proxy_exists = raw is not None
        addresses = ((raw or {}).get("spec") or {}).get("clusterIPs") or ()
        self._proxy_addresses = tuple(each for each in addresses if each != "None")
        if self._targets is not None:
            self._targets.policy = self._make_policy()
        self._enqueue_all()

    def _make_policy(self) -> AddressPolicy:
        settings = self._settings
        return AddressPolicy.from_settings(
            allow=settings.targets_allow,
            deny=settings.targets_deny,
            in_cluster=settings.in_cluster,
            own_addresses=self._proxy_addresses,
        )

    def _on_secret_read(self, secret: ObjectKey) -> None:
        for each in self._observed_connectors:
            if each.key.namespace == secret.namespace:
                self._queue.add(each.key)

    def _enqueue_all(self) -> None:
        self._enqueue([each.key for each in self._observed_connectors])

    def _enqueue(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            self._queue.add(key)
            for request in self._store.access.requests_for(key):
                self._access_queue.add(AccessKey(AccessRequest, request))

    def _on_admission_proof(self, enforced_since: float | None) -> None:
        """Judge the requests when it is known whether the admission policies are in force, and when that changes."""
        if self._access is None:
            return
        has_changed = self._store.access.set_enforced_since(enforced_since)
        if has_changed or not self._access.is_admission_known:
            self._access.is_admission_known = True
            self._enqueue_access_objects()

    def _enqueue_access_objects(self) -> None:
        for key in self._access_caches.all_keys():
            self._access_queue.add(key)

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
        seconds = self._metrics.reconcile_seconds.labels(name)
        # Errors start at 0. If the series started at 1, `rate` would not show the first one.
        counters = {outcome: self._metrics.reconciles.labels(name, outcome) for outcome in ("ok", "error")}

        async def measured(key: K) -> float | None:
            outcome = "error"
            with seconds.time(), contextlib.ExitStack() as stack:
                stack.callback(lambda: counters[outcome].inc())
                requeue_after = await reconcile(key)
                outcome = "ok"
            return requeue_after

        return measured


def _now() -> datetime:
    return datetime.now(UTC)
