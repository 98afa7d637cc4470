"""One term as leader: watches fill the caches, keys go to the queues, workers reconcile.

Everything here is made when the term begins and gone when it ends; what must outlive it is in the API server.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Never

from connector_controller.classes import ClassReconciler
from connector_controller.connectors import ConnectorReconciler
from connector_controller.events import Recorder
from connector_controller.handover import Handover
from connector_controller.metrics import Metrics
from connector_controller.observed import Registry, SeenClass, SeenConnector, see_class, see_connector
from connector_controller.proxy_services import ProxyServices
from connector_controller.schedule import Schedule
from connector_controller.threads import DaemonThreads
from connector_controller.trust_bundle import TrustBundle
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.kubeconfig.proxy_service import ALIAS_SELECTOR, parse_service
from connector_store.domain.objects.auth import is_supported
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.status.conditions import ProbeOutcomes, ProbeResponse
from connector_store.kube.client import KubeClient
from connector_store.kube.queue import WorkQueue, work
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import CONFIG_MAPS, CONNECTOR_CLASSES, CONNECTORS, SECRETS, SERVICES
from connector_store.kube.sinks import object_reflector
from connector_store.kube.sources import ClusterSource
from connector_store.minter import Minter
from connector_store.probes import TIMEOUT, Prober, ProbeRequest
from connector_store.store import Store
from connector_store.target_client import TargetClient, resolve_by
from connector_store.trust import TrustStore

WORKERS: Final = 16
RESOLVERS: Final = 64
"""Threads that resolve targets' names; a dead name server holds each for some seconds."""

_CA: Final = "ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line sets. `instance` names this process in events; `ca_file` is the content of `ca-file`."""

    instance: str
    ca_file: bytes | None = None
    workers: int = WORKERS


class Term:
    """`await Term(…).run()` works until it is cancelled. `synced` once all caches are filled."""

    def __init__(self, client: KubeClient, settings: Settings, options: Options, metrics: Metrics) -> None:
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
        self._seen: Registry[ObjectKey, SeenConnector] = Registry(lambda each: each.key, self._queue.add)
        self._classes: Registry[str, SeenClass] = Registry(lambda each: each.key, self._class_queue.add)
        self._services = ProxyServices(client, settings, self._queue.add)
        self._handover = Handover(client, settings, now=time.time, on_published=self._published)
        self._bundle = TrustBundle(client, settings, lambda: self._handover.pem, on_restart=self._restarted)
        self._events = Recorder(client, options.instance, now=time.time)
        self._source = self._make_source()

    async def run(self) -> Never:
        # A name server that does not answer holds up nothing: not the end of the term, and so not the Lease.
        threads = DaemonThreads(RESOLVERS, "resolve")
        resolve = resolve_by(threads)
        targets = TargetClient(self._trust, self._policy(()), resolve, user_agent="connectors-controller")
        prober = Prober(targets, Minter(targets, seconds=TIMEOUT))
        schedule = Schedule(self._measured(prober), self._queue.add, interval=self._settings.probe_interval)
        reflectors = self._reflectors(targets)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._source.run())
                for reflector in reflectors:
                    tasks.create_task(reflector.run())
                for reflector in reflectors:
                    await self._wait(reflector)
                await self._source.synced.wait()
                await self._work(tasks, schedule)
        finally:
            schedule.close()
            threads.shutdown()
            # Another process may lead now: what this one knew last would be added to what that one knows.
            self._metrics.end_term()
        raise AssertionError("a worker ended")

    def why_not_ready(self) -> str | None:
        """What the term cannot go on without."""
        if not self.synced:
            return "the caches are not filled yet"
        stale = self._store.not_served.get(None)
        return stale.message if stale is not None else None

    async def _wait(self, reflector: Reflector[Any]) -> None:
        """For its first state; in a namespace of the setting `namespaces` a refusal is as good."""
        of_one = self._settings.namespaces is not None and reflector.namespace in self._settings.namespaces
        await (reflector.settled if of_one else reflector.synced).wait()

    def counts(self) -> Mapping[str, int]:
        """Connectors of ours by the status of their condition Ready."""
        found = {"True": 0, "False": 0, "Unknown": 0}
        for each in self._ours():
            ready = each.status.ready
            found[ready.status if ready else "Unknown"] += 1
        return found

    def collect(self) -> None:
        """Bring the gauges up to date, for a scrape."""
        for ready, count in self.counts().items():
            self._metrics.connectors.labels(ready).set(count)
        for queue in (self._queue, self._class_queue, self._ca_queue, self._bundle.queue):
            self._metrics.queue_depth.labels(queue.name).set(len(queue))
        # A kind of which every namespace is withheld has no age.
        self._metrics.watch_age.clear()
        for kind, age in self._source.ages().items():
            self._metrics.watch_age.labels(kind).set(age)
        self._metrics.not_served.set(len(set(self._store.not_served) - {None}))
        self._metrics.events_dropped.set(self._events.dropped)
        self._metrics.credential_expires.clear()
        for each in self._ours():
            if each.status.credential_expires_at is not None:
                self._metrics.credential_expires.labels(str(each.key)).set(each.status.credential_expires_at)
        self._metrics.ca_expires.set(self._handover.expires or 0)

    def _ours(self) -> Iterator[SeenConnector]:
        """Nobody here writes the status of others, so it says nothing that could be mended here."""
        return (
            each
            for each in self._seen
            if is_supported(each.connector, self._store.connector_class(each.connector.class_name))
        )

    async def _work(self, tasks: asyncio.TaskGroup, schedule: Schedule) -> None:
        tasks.create_task(self._events.run())
        self._ca_queue.add(_CA)
        self._class_queue.add(K8S.name)
        tasks.create_task(work(self._ca_queue, self._timed("ca", self._handover.reconcile)))
        tasks.create_task(self._bundle.run(self._timed("bundle", self._bundle.reconcile)))
        classes = ClassReconciler(self._client, self._classes, now=_now)
        tasks.create_task(work(self._class_queue, self._timed("classes", classes.reconcile)))
        connectors = self._connectors(schedule)
        reconcile = self._timed("connectors", connectors.reconcile)
        tasks.create_task(work(self._queue, reconcile, workers=self._options.workers))
        self._store.subscribe(lambda keys: self._add(keys))
        self._add_all()
        self.synced = True

    def _connectors(self, schedule: Schedule) -> ConnectorReconciler:
        return ConnectorReconciler(
            self._client,
            self._store,
            self._seen,
            services=self._services,
            probing=schedule,
            events=self._events,
            trust=self._trust,
            settings=self._settings,
            knows=self._source.knows,
            ca=lambda: self._handover.pem,
            now=_now,
        )

    def _make_source(self) -> ClusterSource:
        return ClusterSource(
            self._client,
            self._store,
            system_namespace=self._settings.system_namespace,
            namespaces=self._settings.namespaces,
            # Also those of namespaces that are not served: that is said in their status.
            all_connectors=True,
            watch_timeout=self._settings.watch_timeout,
            stale_after=self._settings.stale_after,
            on_restart=self._restarted,
            on_known=self._secret_known,
            on_withheld=self._add_all,
            readers={CONNECTORS: (see_connector, self._seen), CONNECTOR_CLASSES: (see_class, self._classes)},
        )

    def _reflectors(self, targets: TargetClient) -> list[Reflector[Any]]:
        settings = self._settings
        limits: dict[str, Any] = {"watch_timeout": settings.watch_timeout, "on_restart": self._restarted}
        config_map = ObjectKey(settings.system_namespace, settings.ca_configmap)
        made: list[Reflector[Any]] = [
            object_reflector(self._client, CONFIG_MAPS, config_map, self._config_map_changed, **limits),
        ]
        for namespace in settings.namespaces or (None,):
            registry = self._services.registry_of(namespace)
            made.append(
                Reflector(
                    self._client,
                    SERVICES,
                    parse_service,
                    registry,
                    namespace=namespace,
                    label_selector=ALIAS_SELECTOR,
                    **limits,
                )
            )
        if settings.ca_secret is not None:
            secret = ObjectKey(settings.system_namespace, settings.ca_secret)
            made.append(object_reflector(self._client, SECRETS, secret, self._ca_changed, **limits))
        if settings.proxy_service is not None:
            made.append(
                object_reflector(
                    self._client,
                    SERVICES,
                    settings.proxy_service,
                    lambda raw: self._proxy_changed(targets, raw),
                    **limits,
                )
            )
        return made

    def _published(self) -> None:
        self._bundle.changed()
        self._add_all()

    def _ca_changed(self, raw: Mapping[str, Any] | None) -> None:
        self._handover.secret = raw
        self._ca_queue.add(_CA)

    def _config_map_changed(self, raw: Mapping[str, Any] | None) -> None:
        self._handover.config_map = raw
        self._ca_queue.add(_CA)

    def _proxy_changed(self, targets: TargetClient, raw: Mapping[str, Any] | None) -> None:
        self._services.proxy_is_there = raw is not None
        addresses = ((raw or {}).get("spec") or {}).get("clusterIPs") or ()
        targets.policy = self._policy(tuple(each for each in addresses if each != "None"))
        self._add_all()

    def _policy(self, own: tuple[str, ...]) -> AddressPolicy:
        settings = self._settings
        return AddressPolicy.from_settings(
            allow=settings.targets_allow, deny=settings.targets_deny, in_cluster=settings.in_cluster, own_addresses=own
        )

    def _secret_known(self, secret: ObjectKey) -> None:
        for each in self._seen:
            if each.key.namespace == secret.namespace:
                self._queue.add(each.key)

    def _add_all(self) -> None:
        self._add([each.key for each in self._seen])

    def _add(self, keys: Any) -> None:
        for key in keys:
            self._queue.add(key)

    def _restarted(self, kind: str) -> None:
        self._metrics.watch_restarts.labels(kind).inc()

    def _measured(self, prober: Prober) -> Callable[[ProbeRequest], Awaitable[ProbeOutcomes]]:
        async def probe(request: ProbeRequest) -> ProbeOutcomes:
            with self._metrics.probe_seconds.time():
                result = await prober.probe(request)
            self._metrics.probes.labels(_outcome(result)).inc()
            return result

        return probe

    def _timed[K](
        self, name: str, reconcile: Callable[[K], Awaitable[float | None]]
    ) -> Callable[[K], Awaitable[float | None]]:
        counted, seconds = self._metrics.reconciles, self._metrics.reconcile_seconds.labels(name)

        async def timed(key: K) -> float | None:
            outcome = "error"
            with seconds.time(), contextlib.ExitStack() as stack:
                stack.callback(lambda: counted.labels(name, outcome).inc())
                again = await reconcile(key)
                outcome = "ok"
            return again

        return timed


def _outcome(probes: ProbeOutcomes) -> str:
    if probes.liveness is not None and not (
        isinstance(probes.liveness, ProbeResponse) and probes.liveness.status < 500
    ):
        return "liveness"
    if probes.auth is not None and not (isinstance(probes.auth, ProbeResponse) and 200 <= probes.auth.status < 300):
        return "auth"
    return "ready"


def _now() -> datetime:
    return datetime.now(UTC)
