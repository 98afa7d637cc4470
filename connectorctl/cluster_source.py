"""Cluster source: Connectors, and ServiceAccount tokens from TokenRequest."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.connector_source import ClusterSource
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.kubeconfig.proxy_service import alias_service_name, alias_url, proxy_url_for
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector, InvalidConnector
from connector_store.domain.status.http_address import HttpAddress, parse_http_address
from connector_store.kube import config_loader
from connector_store.kube.aliases import leads_to_proxy
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS
from connector_store.store import Store
from connectorctl.inventory import Inventory
from connectorctl.listing import fill_store, missing_crd_error
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.output import print_message
from connectorctl.proxy_ca import read_proxy_ca


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClusterConnector:
    connector: Connector
    http_address: HttpAddress | None


def load_inventory(
    source_options: SourceOptions, cluster: ClusterSource, settings: Settings, *, namespace: str | None
) -> Inventory:
    """Load what a proxy in this cluster would have, of `namespace` only (None: all)."""

    async def list_objects(client: KubeClient) -> Inventory:
        store = Store()
        ready = await fill_store(store, client, system_namespace=settings.system_namespace, namespace=namespace)
        return Inventory(store=store, ready_conditions=ready)

    return asyncio.run(_run_with_client(source_options, cluster, list_objects))


def build_entries(
    source_options: SourceOptions,
    cluster: ClusterSource,
    keys: Sequence[ObjectKey],
    caller_options: CallerOptions,
    settings: Settings,
    *,
    proxy: str | None,
) -> list[KubeconfigEntry]:
    """Return the kubeconfig entries of `keys`, with tokens of the caller's ServiceAccount."""

    async def build(client: KubeClient) -> list[KubeconfigEntry]:
        connectors = [await _get_connector(client, key) for key in keys]
        return [await _build_entry(client, connector, caller_options, settings, proxy) for connector in connectors]

    return asyncio.run(_run_with_client(source_options, cluster, build))


def issue_token(
    source_options: SourceOptions,
    cluster: ClusterSource,
    key: ObjectKey,
    caller_options: CallerOptions,
    settings: Settings,
) -> str:
    """Return a token for one Connector."""

    async def issue(client: KubeClient) -> str:
        return await _create_token(client, caller_options, await _get_connector(client, key), settings)

    return asyncio.run(_run_with_client(source_options, cluster, issue))


async def _run_with_client[T](
    source_options: SourceOptions, cluster: ClusterSource, work: Callable[[KubeClient], Awaitable[T]]
) -> T:
    configuration = await config_loader.load_configuration(cluster.context, kubeconfig=source_options.kubeconfig)
    async with KubeClient(configuration, user_agent="connectorctl") as client:
        return await work(client)


async def _get_connector(client: KubeClient, key: ObjectKey) -> _ClusterConnector:
    try:
        raw: dict[str, Any] = await client.get(CONNECTORS.path(key.namespace, key.name))
    except ApiError as error:
        raise missing_crd_error(CONNECTORS, error) or error from error
    connector = parse_connector(raw)
    if isinstance(connector, InvalidConnector):
        raise ParseError(f"Connector {key}", connector.message)
    return _ClusterConnector(connector=connector, http_address=parse_http_address(raw))


async def _build_entry(
    client: KubeClient,
    cluster_connector: _ClusterConnector,
    caller_options: CallerOptions,
    settings: Settings,
    proxy_url: str | None,
) -> KubeconfigEntry:
    proxy = proxy_url or await _resolve_proxy(client, cluster_connector, settings)
    if proxy is None:
        raise ParseError(
            f"Connector {cluster_connector.connector.key}",
            "status.proxy.httpAddress is not set; see that the controller runs, or name the proxy by --proxy and "
            "--confdir",
        )
    return KubeconfigEntry(
        key=cluster_connector.connector.key,
        address=cluster_connector.connector.address,
        proxy=proxy,
        ca=_proxy_ca(caller_options, cluster_connector.http_address),
        token=await _create_token(client, caller_options, cluster_connector, settings),
    )


async def _resolve_proxy(client: KubeClient, cluster_connector: _ClusterConnector, settings: Settings) -> str | None:
    """Return the published proxy URL, or the proxy's own host if the Connector's Service is not the controller's."""
    connector, http_address = cluster_connector.connector, cluster_connector.http_address
    if http_address is None or http_address.url != alias_url(connector.key, settings.cluster_domain):
        return http_address.url if http_address else None
    is_alias_verified = await leads_to_proxy(client, connector.key, connector.uid, settings.proxy_host or "")
    if not is_alias_verified:
        name, namespace = alias_service_name(connector.key.name) or "", connector.key.namespace
        print_message(
            f'warning: services "{name}" in namespace "{namespace}" is not seen to be the controller\'s; '
            "the kubeconfig names the proxy's own host"
        )
    return proxy_url_for(connector.key, settings, alias_verified=is_alias_verified)


def _proxy_ca(caller_options: CallerOptions, http_address: HttpAddress | None) -> bytes:
    """Return the published CA, or that of --confdir: a proxy with a confdir has its own CA."""
    if caller_options.confdir is None and http_address is not None:
        return http_address.ca
    return read_proxy_ca(caller_options.confdir)


async def _create_token(
    client: KubeClient, caller_options: CallerOptions, cluster_connector: _ClusterConnector, settings: Settings
) -> str:
    account = caller_options.service_account
    if account is None:
        raise ParseError("--service-account", "is missing")
    audience = (cluster_connector.http_address.audience if cluster_connector.http_address else "") or settings.audience
    return await client.create_token(account.namespace, account.name, audience, caller_options.ttl)
