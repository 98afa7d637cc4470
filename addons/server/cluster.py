"""The parts in a cluster: its API server holds the Connectors and knows the callers."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from addons.records.metrics import Metrics
from addons.server import assembly
from addons.server.ca_secret import SecretAuthority
from addons.server.options import Config
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Identity, Unavailable
from connector_store.domain.config.settings import Settings, parse_settings
from connector_store.domain.config.source import ClusterSource
from connector_store.domain.kubeconfig.proxy_service import proxy_url_for
from connector_store.domain.objects.models import Target
from connector_store.kube import config as kube_config
from connector_store.kube.access import KubeAccess
from connector_store.kube.aliases import leads_to_proxy
from connector_store.kube.client import KubeClient
from connector_store.kube.config import in_pod
from connector_store.kube.resources import SECRETS
from connector_store.kube.review import ReviewAuthorizer
from connector_store.kube.shared_settings import INITIAL_BACKOFF, read_settings
from connector_store.kube.sinks import object_reflector
from connector_store.kube.sources import ClusterWatches
from connector_store.store import Store


class Nobody:
    """`Access` before the API server is known: nobody can be checked."""

    revocation_count: Final = 0

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return Unavailable(reason="not connected to the API server yet")

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        return Unavailable(reason="not connected to the API server yet")

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        return Unavailable(reason="not connected to the API server yet")

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Unavailable:
        return Unavailable(reason="not connected to the API server yet")


def waiting(config: Config, records: assembly.Records) -> assembly.Parts:
    """What serves until `connect` is done: everybody is told to come again. ParseError for a wrong setting."""
    settings = parse_settings(explicit=config.explicit, environ=os.environ, config_map={}, in_cluster=True)
    return assembly.join(
        config,
        settings,
        records,
        store=Store(expected=["the API server"]),
        access=Nobody(),
        rights=Nobody(),
        authority=assembly.own_authority(),
        proxy=_not_known,
        work=[],
    )


async def connect(
    config: Config,
    cluster: ClusterSource,
    records: assembly.Records,
    on_problem: Callable[[str], None] = lambda problem: None,
    *,
    first_pause: float = INITIAL_BACKOFF,
) -> assembly.Parts:
    """Find the API server, read the shared settings, join the parts. ValueError if that can never work.

    `on_problem` is told why the settings are not there yet.
    """
    client = KubeClient(await kube_config.load_configuration(cluster.context))
    settings = await read_settings(
        client, explicit=config.explicit, environ=os.environ, on_problem=on_problem, initial_backoff=first_pause
    )
    store = Store()
    source = ClusterWatches(
        client,
        store,
        system_namespace=settings.system_namespace,
        namespaces=settings.namespaces,
        watch_timeout=settings.watch_timeout,
        stale_after=settings.stale_after,
        on_restart=lambda kind: _restarted(records.metrics, kind),
    )

    async def watch() -> None:
        async with client:
            await source.run()

    records.metrics.watches(source.watch_ages, lambda: len(set(store.not_served) - {None}))
    work: list[assembly.Work] = [("watches", watch)]
    authority = assembly.own_authority()
    if settings.ca_secret is not None:
        authority, following = _shared_authority(client, store, settings, records.metrics)
        work.append(following)
    return assembly.join(
        config,
        settings,
        records,
        store=store,
        access=_access(client, config, settings, records.metrics, await client.issuer()),
        rights=ReviewAuthorizer(client, settings.access),
        authority=authority,
        proxy=lambda target, host: _proxy(client, settings, target, host),
        work=work,
        own_addresses=await own_addresses([socket.gethostname(), settings.proxy_host], on_problem, patient=in_pod()),
    )


async def _not_known(target: Target, host: str) -> str:
    return f"http://{host}"


async def _proxy(client: KubeClient, settings: Settings, target: Target, host: str) -> str:
    """By the Connector's own Service if that is ours at this moment, else as this caller has reached us."""
    ours = settings.proxy_host or ""
    seen = await leads_to_proxy(client, target.key, target.uid, ours)
    return (
        proxy_url_for(target.key, settings, alias_verified=seen)
        or f"{'https' if settings.proxy_tls else 'http'}://{host}"
    )


def _shared_authority(
    client: KubeClient, store: Store, settings: Settings, metrics: Metrics
) -> tuple[assembly.Authority, assembly.Work]:
    key = ObjectKey(settings.system_namespace, settings.ca_secret or "")
    found = SecretAuthority(key)
    store.expect(assembly.CA)

    def changed(raw: Mapping[str, object] | None) -> None:
        found.on_change(raw)
        if found.signer is not None:
            store.remove_source(assembly.CA)

    reflector = object_reflector(
        client,
        SECRETS,
        key,
        changed,
        watch_timeout=settings.watch_timeout,
        on_restart=lambda kind: _restarted(metrics, kind),
    )
    authority = assembly.Authority(signer=lambda: found.signer, published=lambda: found.published)
    return authority, ("watch of the CA", reflector.run)


def _access(client: KubeClient, config: Config, settings: Settings, metrics: Metrics, issued_by: str) -> KubeAccess:
    def reviewed(what: str, result: str) -> None:
        if what == "token":
            metrics.token_reviews[result] += 1

    return KubeAccess(
        client,
        audience=settings.audience,
        rule=settings.access,
        recheck=config.recheck,
        issuers=[issued_by],
        on_review=reviewed,
    )


def _restarted(metrics: Metrics, kind: str) -> None:
    metrics.watch_restarts[kind] += 1


async def own_addresses(
    names: Iterable[str | None], on_problem: Callable[[str], None], *, patient: bool, pause: float = INITIAL_BACKOFF
) -> set[str]:
    """The proxy's own addresses, of its pod and of its Service, which are no targets.

    A name that does not exist has none. While nobody can say, `patient` asks again, and no target is reached meanwhile;
    outside of a cluster there may be nobody to ask.
    """
    found: set[str] = set()
    loop = asyncio.get_running_loop()
    waiting = [name for name in names if name is not None]
    while waiting:
        try:
            infos = await loop.getaddrinfo(waiting[0], None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if patient and error.errno == socket.EAI_AGAIN:
                on_problem(f"the addresses of {waiting[0]}, the proxy itself, are not known yet: {error.strerror}")
                await asyncio.sleep(pause)
                continue
            infos = []
        found |= {str(each[4][0]) for each in infos}
        waiting.pop(0)
    return found
