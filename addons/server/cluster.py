"""Parts of a proxy whose Connectors and callers come from a cluster's API server."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from addons.records.metrics import Metrics
from addons.server import assembly
from addons.server.ca_secret import CaSecret
from addons.server.options import Config
from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Identity, Unavailable
from connector_store.domain.config.connector_source import ClusterSource
from connector_store.domain.config.settings import LogFormat, Settings, parse_settings
from connector_store.domain.grants.access_index import AccessClock
from connector_store.domain.grants.admission import ADMISSION_CONFIG_MAP, parse_enforced_since
from connector_store.domain.kubeconfig.proxy_service import proxy_url_for
from connector_store.domain.objects.models import Target
from connector_store.kube import config_loader as kube_config
from connector_store.kube.access import KubeAccess
from connector_store.kube.aliases import leads_to_proxy
from connector_store.kube.client import KubeClient
from connector_store.kube.cluster_watches import ClusterWatches
from connector_store.kube.config_loader import in_pod
from connector_store.kube.resources import CONFIG_MAPS, SECRETS
from connector_store.kube.review import AccessRequestSupport, ReviewAuthorizer
from connector_store.kube.shared_settings import INITIAL_BACKOFF, SharedSettings
from connector_store.kube.sinks import object_reflector
from connector_store.store import Store


class UnavailableAccess:
    """`Access` before the proxy is connected to the API server. No caller can be checked."""

    revocation_count: Final = 0

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return Unavailable(reason="not connected to the API server yet", kind="not_connected")

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        return Unavailable(reason="not connected to the API server yet", kind="not_connected")

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        return Unavailable(reason="not connected to the API server yet", kind="not_connected")

    async def recheck_use(self, token: str, identity: Identity, key: ObjectKey) -> Unavailable:
        return Unavailable(reason="not connected to the API server yet", kind="not_connected")

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Unavailable:
        return Unavailable(reason="not connected to the API server yet", kind="not_connected")


def create_waiting_parts(config: Config, records: assembly.Records) -> assembly.ProxyParts:
    """Create the parts that serve until `create_parts` is done, and refuse all callers with 503.

    Raises ParseError for an invalid setting.
    """
    settings = parse_settings(explicit=config.explicit, environ=os.environ, config_map={}, in_cluster=True)
    return assembly.assemble(
        config,
        settings,
        records,
        store=Store(expected=["the API server"]),
        access=UnavailableAccess(),
        rights=UnavailableAccess(),
        authority=assembly.mitmproxy_authority(),
        proxy_url=_default_proxy_url,
        work=[],
    )


async def create_parts(
    config: Config,
    cluster: ClusterSource,
    records: assembly.Records,
    on_problem: Callable[[str], None] = lambda problem: None,
    *,
    on_log_format: Callable[[LogFormat], None] = lambda log_format: None,
    initial_backoff: float = INITIAL_BACKOFF,
) -> assembly.ProxyParts:
    """Find the API server, read the shared settings, and assemble the parts. Raises ValueError if this cannot succeed.

    `on_problem` gets the reason why the settings cannot be read yet. `on_log_format` gets the format when it changes.
    `initial_backoff` is in seconds.
    """
    client = KubeClient(await kube_config.load_configuration(cluster.context))
    shared = SharedSettings(client, "addons", explicit=config.explicit, environ=os.environ)
    settings = await shared.read(on_problem=on_problem, initial_backoff=initial_backoff)
    store = Store(clock=AccessClock(client.clock.now, boot_time))
    source = ClusterWatches(
        client,
        store,
        system_namespace=settings.system_namespace,
        namespaces=settings.namespaces,
        access_objects=True,
        watch_timeout=settings.watch_timeout,
        stale_after=settings.stale_after,
        on_restart=lambda kind: _count_restart(records.metrics, kind),
    )

    async def watch() -> None:
        async with client:
            await source.run()

    records.metrics.add_gauge(
        "connector_clock_offset_seconds",
        "Seconds by which the clock of this node is ahead of the API server's",
        lambda: client.clock.node_offset,
    )
    records.metrics.set_watches(source.watch_ages, lambda: len(set(store.not_served) - {None}))
    _add_settings_metrics(records.metrics, shared)
    work: list[assembly.BackgroundWork] = [
        ("watches", watch),
        ("settings", shared.follow),
        _watch_admission(client, store, settings, records.metrics),
    ]
    authority = assembly.mitmproxy_authority()
    if settings.ca_secret is not None:
        authority, watch_ca = _watch_ca_secret(client, store, settings, records.metrics)
        work.append(watch_ca)
    issuer = await client.issuer()
    requests = AccessRequestSupport(
        has_hint=settings.access_request_hint,
        is_entitled=store.access.may_be_entitled,
    )
    parts = assembly.assemble(
        config,
        settings,
        records,
        store=store,
        access=_create_access(client, config, settings, records.metrics, issuer, requests),
        rights=ReviewAuthorizer(client, settings.access, requests),
        authority=authority,
        proxy_url=lambda target, host: _proxy_url(client, settings, target, host),
        work=work,
        own_addresses=await resolve_own_addresses(
            [socket.gethostname(), settings.proxy_host], on_problem, retry=in_pod()
        ),
        # Outside of a pod, our own token can be that of a person, whose issuer may have an entry.
        own_issuers=[issuer] if in_pod() else [],
        now=client.clock.now,
    )
    shared.subscribe(parts.follow)
    shared.subscribe(lambda newer: source.serve(newer.namespaces))
    shared.subscribe(lambda newer: on_log_format(newer.log_format))
    return parts


def _add_settings_metrics(metrics: Metrics, shared: SharedSettings) -> None:
    metrics.add_gauge(
        "connector_settings_unknown_keys",
        "Keys of the ConfigMap with the settings that are not settings",
        lambda: float(len(shared.current.unknown_keys)),
    )
    metrics.add_gauge(
        "connector_settings_rejected",
        "1 while the ConfigMap with the settings is invalid or deleted, so that previous settings are in effect",
        lambda: float(shared.is_rejected),
    )


async def _default_proxy_url(target: Target, host: str) -> str:
    return f"http://{host}"


async def _proxy_url(client: KubeClient, settings: Settings, target: Target, host: str) -> str:
    """Return the URL of the Connector's own Service if it leads to this proxy, else the URL that the caller used."""
    alias_verified = await leads_to_proxy(client, target.key, target.uid, settings.proxy_host or "")
    return (
        proxy_url_for(target.key, settings, alias_verified=alias_verified)
        or f"{'https' if settings.proxy_tls else 'http'}://{host}"
    )


def _watch_ca_secret(
    client: KubeClient, store: Store, settings: Settings, metrics: Metrics
) -> tuple[assembly.CertificateAuthority, assembly.BackgroundWork]:
    key = ObjectKey(settings.system_namespace, settings.ca_secret or "")
    ca = CaSecret(key)
    store.expect(assembly.CA)

    def on_change(raw: Mapping[str, object] | None) -> None:
        ca.on_change(raw)
        if ca.signer is not None:
            store.remove_source(assembly.CA)

    reflector = object_reflector(
        client,
        SECRETS,
        key,
        on_change,
        watch_timeout=settings.watch_timeout,
        on_restart=lambda kind: _count_restart(metrics, kind),
    )
    authority = assembly.CertificateAuthority(get_signer=lambda: ca.signer, get_published=lambda: ca.published)
    return authority, ("watch of the CA", reflector.run)


def _watch_admission(client: KubeClient, store: Store, settings: Settings, metrics: Metrics) -> assembly.BackgroundWork:
    """Follow the time since which the admission policies for access objects are in force.

    Without the right to read it, no access request is granted.
    """
    store.expect(ADMISSION_CONFIG_MAP)
    reflector = object_reflector(
        client,
        CONFIG_MAPS,
        ObjectKey(settings.system_namespace, ADMISSION_CONFIG_MAP),
        lambda raw: store.set_admission_enforced_since(parse_enforced_since(raw)),
        watch_timeout=settings.watch_timeout,
        on_restart=lambda kind: _count_restart(metrics, kind),
    )

    async def follow() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reflector.run())
            await reflector.synced_or_refused.wait()
            store.remove_source(ADMISSION_CONFIG_MAP)

    return ("watch of the admission of access objects", follow)


def _create_access(
    client: KubeClient,
    config: Config,
    settings: Settings,
    metrics: Metrics,
    issuer: str,
    requests: AccessRequestSupport,
) -> KubeAccess:
    def count_review(what: str, result: str) -> None:
        if what == "token":
            metrics.token_reviews[result] += 1

    access = KubeAccess(
        client,
        audience=settings.audience,
        rule=settings.access,
        recheck=config.recheck,
        outage_grace=min(config.outage_grace, settings.stale_after),
        max_wait=config.timeouts.client,
        issuers=[issuer],
        now=client.clock.now,
        on_review=count_review,
        requests=requests,
    )
    metrics.add_counter(
        "connector_outage_grants",
        "Uses of an earlier review, because the API server could not be asked",
        lambda: access.outage_count,
    )
    return access


def _count_restart(metrics: Metrics, kind: str) -> None:
    metrics.watch_restarts[kind] += 1


async def resolve_own_addresses(
    names: Iterable[str | None], on_problem: Callable[[str], None], *, retry: bool, pause: float = INITIAL_BACKOFF
) -> set[str]:
    """Resolve the proxy's own addresses, those of its pod and of its Service, which cannot be targets.

    A name that does not exist has no addresses. If no server answers, try again with `retry`, every `pause` seconds.
    The proxy reaches no target meanwhile. Outside of a cluster, there may be no server that can answer.
    """
    addresses: set[str] = set()
    loop = asyncio.get_running_loop()
    pending = [name for name in names if name is not None]
    while pending:
        try:
            infos = await loop.getaddrinfo(pending[0], None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if retry and error.errno == socket.EAI_AGAIN:
                on_problem(f"the addresses of {pending[0]}, the proxy itself, are not known yet: {error.strerror}")
                await asyncio.sleep(pause)
                continue
            infos = []
        addresses |= {str(info[4][0]) for info in infos}
        pending.pop(0)
    return addresses
