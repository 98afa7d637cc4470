"""Assembly of the driver: both sockets, the admin address and the background tasks."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from connector_csi.cluster_cache import ClusterCache
from connector_csi.disk import Disk
from connector_csi.health import serve_admin
from connector_csi.identity_service import IdentityService
from connector_csi.metrics import CsiMetrics
from connector_csi.mounts import Mounts
from connector_csi.node_service import NodeService
from connector_csi.options import DriverOptions
from connector_csi.pod_access import PodAccess
from connector_csi.pod_events import PodEvents
from connector_csi.proto import csi_pb2_grpc, registration_pb2_grpc
from connector_csi.registration_service import RegistrationService
from connector_csi.server import serve
from connector_csi.volume_records import VolumeRecords
from connector_csi.volume_renderer import VolumeRenderer
from connector_csi.volumes import Volumes
from connector_store.kube.client import KubeClient

logger = logging.getLogger(__name__)


async def run(
    options: DriverOptions, client: KubeClient, mounts: Mounts, environ: Mapping[str, str], stop: asyncio.Event
) -> int:
    """Serve until `stop` is set, and return the exit code.

    The registration socket opens last, because kubelet calls NodeGetInfo as soon as it finds it. It closes first, which
    tells kubelet that the driver is stopping.
    """
    metrics = CsiMetrics()
    metrics.clock_offset.set_function(lambda: client.clock.node_offset)
    cluster, events = ClusterCache(client, environ, metrics), PodEvents(client, options.node_name)
    volumes = Volumes(
        pods=options.pods_folder,
        disk=Disk(VolumeRecords(options.records_folder), mounts),
        renderer=VolumeRenderer(cluster, PodAccess(client, options.node_name, cluster.load, cluster.connector)),
        warnings=events,
        metrics=metrics,
    )
    identity = IdentityService(cluster.synced.is_set)
    node, registration = NodeService(options.node_name, volumes, metrics), RegistrationService(options.endpoint)
    async with (
        serve(
            options.endpoint,
            lambda server: csi_pb2_grpc.add_IdentityServicer_to_server(identity, server),
            lambda server: csi_pb2_grpc.add_NodeServicer_to_server(node, server),
        ),
        serve_admin(
            *options.admin,
            endpoint=options.endpoint,
            registration=options.registration_socket,
            metrics=metrics,
            not_ready_reason=lambda: (
                registration.rejection_reason
                or (cluster.stale_reason if cluster.synced.is_set() else cluster.not_synced_reason)
            ),
        ) as address,
        serve(
            options.registration_socket,
            lambda server: registration_pb2_grpc.add_RegistrationServicer_to_server(registration, server),
        ),
    ):
        logger.info("serving %s; health and metrics on %s:%s", options.endpoint, *address)
        code = await _wait_for_stop(stop, cluster, events)
    await volumes.close()
    return code


async def _wait_for_stop(stop: asyncio.Event, cluster: ClusterCache, events: PodEvents) -> int:
    stop_task = asyncio.ensure_future(stop.wait())
    workers: list[asyncio.Future[Any]] = [asyncio.ensure_future(cluster.run()), asyncio.ensure_future(events.run())]
    try:
        done, _ = await asyncio.wait([stop_task, *workers], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stop_task, *workers):
            task.cancel()
        await asyncio.gather(stop_task, *workers, return_exceptions=True)
    for worker in workers:
        if worker in done:
            logger.error("the driver cannot continue: %s", worker.exception())
            return 1
    return 0
