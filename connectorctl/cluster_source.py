"""Cluster source: what a proxy in the cluster would have. `cluster_tokens` has the tokens of callers."""

import asyncio
from collections.abc import Awaitable, Callable

from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.connector_source import ClusterSource
from connector_store.domain.config.settings import Settings
from connector_store.domain.grants.access_index import AccessClock
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONNECTORS
from connector_store.store import Store
from connectorctl.cluster_details import read_details
from connectorctl.description import ConnectorDetails
from connectorctl.inventory import Inventory
from connectorctl.listing import fill_store
from connectorctl.missing_crd import explain_missing_crd
from connectorctl.option_values import SourceOptions


def load_inventory(
    source_options: SourceOptions, cluster: ClusterSource, settings: Settings, *, namespace: str | None
) -> Inventory:
    """Load what a proxy in this cluster would have, of `namespace` only (None: all)."""

    async def list_objects(client: KubeClient) -> Inventory:
        store = Store(clock=AccessClock(client.clock.now, boot_time))
        ready = await fill_store(store, client, system_namespace=settings.system_namespace, namespace=namespace)
        return Inventory(store=store, ready_conditions=ready)

    return asyncio.run(run_with_client(source_options, cluster, list_objects))


def load_details(
    source_options: SourceOptions, cluster: ClusterSource, key: ObjectKey, settings: Settings
) -> ConnectorDetails:
    """Load what the cluster has about one Connector."""

    async def read(client: KubeClient) -> ConnectorDetails:
        with explain_missing_crd(CONNECTORS):
            return await read_details(client, key, settings)

    return asyncio.run(run_with_client(source_options, cluster, read))


async def run_with_client[T](
    source_options: SourceOptions, cluster: ClusterSource, work: Callable[[KubeClient], Awaitable[T]]
) -> T:
    """Return the result of `work` with a client for the cluster."""
    configuration = await config_loader.load_configuration(cluster.context, kubeconfig=source_options.kubeconfig)
    async with KubeClient(configuration, user_agent="connectorctl") as client:
        return await work(client)
