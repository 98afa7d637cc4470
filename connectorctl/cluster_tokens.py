"""Tokens and kubeconfig entries of a cluster's callers: TokenRequest, and the proxy that the controller published."""

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
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
from connector_store.kube.aliases import leads_to_proxy
from connector_store.kube.resources import CONNECTORS
from connectorctl.caller_token import TokenClient, create_caller_token
from connectorctl.missing_crd import explain_missing_crd
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.output import print_message
from connectorctl.proxy_ca import read_proxy_ca
from connectorctl.small_client import SmallClient, UnsupportedConfigurationError, load_small_configuration, run


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClusterConnector:
    connector: Connector
    http_address: HttpAddress | None
    raw: Mapping[str, Any]


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

    async def build(client: TokenClient) -> list[KubeconfigEntry]:
        connectors = [await _get_connector(client, key) for key in keys]
        return [await _build_entry(client, connector, caller_options, settings, proxy) for connector in connectors]

    return _run_with_client(source_options, cluster, build)


def issue_token(
    source_options: SourceOptions,
    cluster: ClusterSource,
    key: ObjectKey,
    caller_options: CallerOptions,
    settings: Settings,
) -> str:
    """Return a token for one Connector."""

    async def issue(client: TokenClient) -> str:
        raw = await _get_object(client, key)
        return await create_caller_token(
            client, raw, caller_options.service_account, caller_options.ttl, settings.audience
        )

    return _run_with_client(source_options, cluster, issue)


def _run_with_client[T](
    source_options: SourceOptions, cluster: ClusterSource, work: Callable[[TokenClient], Coroutine[Any, Any, T]]
) -> T:
    """Return the result of `work` with the small client, or with the full one if the kubeconfig needs it."""
    try:
        configuration = load_small_configuration(cluster.context, source_options.kubeconfig, os.environ)
        client = SmallClient(configuration)
    except UnsupportedConfigurationError:
        import asyncio

        from connectorctl.cluster_source import run_with_client

        return asyncio.run(run_with_client(source_options, cluster, work))
    with client:
        return run(work(client))


async def _get_object(client: TokenClient, key: ObjectKey) -> dict[str, Any]:
    with explain_missing_crd(CONNECTORS):
        return await client.get(CONNECTORS.path(key.namespace, key.name))


async def _get_connector(client: TokenClient, key: ObjectKey) -> _ClusterConnector:
    raw = await _get_object(client, key)
    connector = parse_connector(raw)
    if isinstance(connector, InvalidConnector):
        raise ParseError(f"Connector {key}", connector.message)
    return _ClusterConnector(connector=connector, http_address=parse_http_address(raw), raw=raw)


async def _build_entry(
    client: TokenClient,
    cluster_connector: _ClusterConnector,
    caller_options: CallerOptions,
    settings: Settings,
    proxy_url: str | None,
) -> KubeconfigEntry:
    proxy = proxy_url or await _resolve_proxy(client, cluster_connector, settings)
    if proxy is None:
        raise ParseError(
            f"Connector {cluster_connector.connector.key}",
            "status.proxy.httpAddress is not set; see that the controller runs, or name the proxy with --proxy "
            "and --confdir",
        )
    return KubeconfigEntry(
        key=cluster_connector.connector.key,
        address=cluster_connector.connector.address,
        proxy=proxy,
        ca=_proxy_ca(caller_options, cluster_connector.http_address),
        token=await create_caller_token(
            client, cluster_connector.raw, caller_options.service_account, caller_options.ttl, settings.audience
        ),
    )


async def _resolve_proxy(client: TokenClient, cluster_connector: _ClusterConnector, settings: Settings) -> str | None:
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
