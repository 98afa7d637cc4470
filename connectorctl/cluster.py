"""A cluster as a source: its Connectors, and ServiceAccount tokens that it signs (TokenRequest)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.config.source import ClusterSource
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.kubeconfig.proxy_service import alias_service_name, alias_url, proxy_url_for
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector, InvalidConnector
from connector_store.domain.status.published import HttpAddress, parse_http_address
from connector_store.kube import config
from connector_store.kube.aliases import leads_to_proxy
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS
from connector_store.store import Store
from connectorctl.listing import fill, missing_definition
from connectorctl.options import Caller, Where
from connectorctl.output import say
from connectorctl.proxy_ca import read_proxy_ca
from connectorctl.seen import Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    connector: Connector
    published: HttpAddress | None


def load(where: Where, cluster: ClusterSource, settings: Settings, *, namespace: str | None) -> Seen:
    """The store that a proxy in this cluster would have, of `namespace` only (None: all)."""

    async def listed(client: KubeClient) -> Seen:
        store = Store()
        ready = await fill(store, client, system_namespace=settings.system_namespace, namespace=namespace)
        return Seen(store=store, ready=ready)

    return asyncio.run(_connected(where, cluster, listed))


def entries(
    where: Where,
    cluster: ClusterSource,
    keys: Sequence[ObjectKey],
    caller: Caller,
    settings: Settings,
    *,
    proxy: str | None,
) -> list[KubeconfigEntry]:
    """What a kubeconfig for `keys` is made of; tokens are of the caller's ServiceAccount."""

    async def made(client: KubeClient) -> list[KubeconfigEntry]:
        found = [await _find(client, key) for key in keys]
        return [await _entry(client, each, caller, settings, proxy) for each in found]

    return asyncio.run(_connected(where, cluster, made))


def token(where: Where, cluster: ClusterSource, key: ObjectKey, caller: Caller, settings: Settings) -> str:
    """A token for one Connector."""

    async def asked(client: KubeClient) -> str:
        return await _token(client, caller, await _find(client, key), settings)

    return asyncio.run(_connected(where, cluster, asked))


async def _connected[T](where: Where, cluster: ClusterSource, work: Callable[[KubeClient], Awaitable[T]]) -> T:
    configuration = await config.load_configuration(cluster.context, kubeconfig=where.kubeconfig)
    async with KubeClient(configuration, user_agent="connectorctl") as client:
        return await work(client)


async def _find(client: KubeClient, key: ObjectKey) -> _Found:
    try:
        raw: dict[str, Any] = await client.get(CONNECTORS.path(key.namespace, key.name))
    except ApiError as error:
        raise missing_definition(CONNECTORS, error) or error from error
    connector = parse_connector(raw)
    if isinstance(connector, InvalidConnector):
        raise ParseError(f"Connector {key}", connector.message)
    return _Found(connector=connector, published=parse_http_address(raw))


async def _entry(
    client: KubeClient, found: _Found, caller: Caller, settings: Settings, named: str | None
) -> KubeconfigEntry:
    proxy = named or await _proxy(client, found, settings)
    if proxy is None:
        raise ParseError(
            f"Connector {found.connector.key}",
            "status.proxy.httpAddress is not set; see that the controller runs, or name the proxy by --proxy and "
            "--confdir",
        )
    return KubeconfigEntry(
        key=found.connector.key,
        address=found.connector.address,
        proxy=proxy,
        ca=_ca(caller, found.published),
        token=await _token(client, caller, found, settings),
    )


async def _proxy(client: KubeClient, found: _Found, settings: Settings) -> str | None:
    """What the controller published, unless the Service there is another's by now: then the proxy's own host."""
    connector, published = found.connector, found.published
    if published is None or published.url != alias_url(connector.key, settings.cluster_domain):
        return published.url if published else None
    seen = await leads_to_proxy(client, connector.key, connector.uid, settings.proxy_host or "")
    if not seen:
        name, namespace = alias_service_name(connector.key.name) or "", connector.key.namespace
        say(
            f'warning: services "{name}" in namespace "{namespace}" is not seen to be the controller\'s; '
            "the kubeconfig names the proxy's own host"
        )
    return proxy_url_for(connector.key, settings, alias_verified=seen)


def _ca(caller: Caller, published: HttpAddress | None) -> bytes:
    """What the controller published, unless a confdir is named: then the proxy is one that has its own CA."""
    if caller.confdir is None and published is not None:
        return published.ca
    return read_proxy_ca(caller.confdir)


async def _token(client: KubeClient, caller: Caller, found: _Found, settings: Settings) -> str:
    account = caller.service_account
    if account is None:
        raise ParseError("--service-account", "is missing")
    audience = (found.published.audience if found.published else "") or settings.audience
    return await client.create_token(account.namespace, account.name, audience, caller.ttl)
