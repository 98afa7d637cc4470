"""The driver put together: both sockets, the admin address, and what runs beside them."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from connector_csi.cluster import Cluster
from connector_csi.content import Contents
from connector_csi.disk import Disk
from connector_csi.events import Events
from connector_csi.health import admin
from connector_csi.identity import Identity
from connector_csi.metrics import Metrics
from connector_csi.mounts import Mounts
from connector_csi.node import Node
from connector_csi.options import Options
from connector_csi.proto import csi_pb2_grpc, registration_pb2_grpc
from connector_csi.records import Records
from connector_csi.registration import Registration
from connector_csi.server import serving
from connector_csi.volumes import Volumes
from connector_store.kube.client import KubeClient

logger = logging.getLogger(__name__)


async def run(
    options: Options, client: KubeClient, mounts: Mounts, environ: Mapping[str, str], stop: asyncio.Event
) -> int:
    """Serve until `stop` is set; the exit code.

    kubelet is told of the driver only when its socket answers (kubelet calls NodeGetInfo at once), and of its end by
    the registration socket, which goes first.
    """
    metrics = Metrics()
    cluster, events = Cluster(client, environ, metrics), Events(client, options.node_name)
    volumes = Volumes(
        pods=options.pods,
        disk=Disk(Records(options.records), mounts),
        contents=Contents(cluster),
        warnings=events,
        metrics=metrics,
    )
    identity = Identity(cluster.synced.is_set)
    node, registration = Node(options.node_name, volumes, metrics), Registration(options.endpoint)
    async with (
        serving(
            options.endpoint,
            lambda server: csi_pb2_grpc.add_IdentityServicer_to_server(identity, server),
            lambda server: csi_pb2_grpc.add_NodeServicer_to_server(node, server),
        ),
        admin(
            *options.admin,
            endpoint=options.endpoint,
            registration=options.registration,
            metrics=metrics,
            why_not_ready=lambda: (
                registration.refused or (cluster.stale if cluster.synced.is_set() else cluster.waits_for)
            ),
        ) as address,
        serving(
            options.registration,
            lambda server: registration_pb2_grpc.add_RegistrationServicer_to_server(registration, server),
        ),
    ):
        logger.info("serving %s; health and metrics on %s:%s", options.endpoint, *address)
        code = await _until(stop, cluster, events)
    await volumes.close()
    return code


async def _until(stop: asyncio.Event, cluster: Cluster, events: Events) -> int:
    stopped = asyncio.ensure_future(stop.wait())
    workers: list[asyncio.Future[Any]] = [asyncio.ensure_future(cluster.run()), asyncio.ensure_future(events.run())]
    try:
        done, _ = await asyncio.wait([stopped, *workers], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stopped, *workers):
            task.cancel()
        await asyncio.gather(stopped, *workers, return_exceptions=True)
    for worker in workers:
        if worker in done:
            logger.error("the driver cannot go on: %s", worker.exception())
            return 1
    return 0
