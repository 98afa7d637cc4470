"""The CSI Node service of a driver that knows inline volumes only (CSI specification, "Node Service RPC").

Each message is read once, here, into a Publication or a Failure; all other calls answer UNIMPLEMENTED by themselves.
"""

import logging
import traceback
from collections.abc import Awaitable
from typing import Final

import grpc

from connector_csi.failure import Failure, invalid
from connector_csi.identity import Context
from connector_csi.metrics import Metrics
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_csi.volumes import Publication, Volumes

logger = logging.getLogger(__name__)

MAX_GID: Final = 2**32 - 2


class Node(csi_pb2_grpc.NodeServicer):
    """`name` is the node's, as the API server knows it."""

    def __init__(self, name: str, volumes: Volumes, metrics: Metrics) -> None:
        self._name = name
        self._volumes = volumes
        self._metrics = metrics

    async def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: Context
    ) -> csi_pb2.NodePublishVolumeResponse:
        await self._answer("NodePublishVolume", self._publish(request), context)
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: Context
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        await self._answer("NodeUnpublishVolume", self._unpublish(request), context)
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: Context
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """VOLUME_MOUNT_GROUP: kubelet tells a pod's fsGroup, and leaves modes and owners to us."""
        capability = csi_pb2.NodeServiceCapability()
        capability.rpc.type = csi_pb2.NodeServiceCapability.RPC.VOLUME_MOUNT_GROUP
        return csi_pb2.NodeGetCapabilitiesResponse(capabilities=[capability])

    async def NodeGetInfo(self, request: csi_pb2.NodeGetInfoRequest, context: Context) -> csi_pb2.NodeGetInfoResponse:
        return csi_pb2.NodeGetInfoResponse(node_id=self._name)

    async def _publish(self, request: csi_pb2.NodePublishVolumeRequest) -> Failure | None:
        asked = read_publication(request)
        return asked if isinstance(asked, Failure) else await self._volumes.publish(asked)

    async def _unpublish(self, request: csi_pb2.NodeUnpublishVolumeRequest) -> Failure | None:
        if not request.volume_id:
            return invalid("volume_id is missing")
        if not request.target_path:
            return invalid("target_path is missing")
        return await self._volumes.unpublish(request.volume_id, request.target_path)

    async def _answer(self, call: str, work: Awaitable[Failure | None], context: Context) -> None:
        try:
            failure = await work
        except Exception as e:
            # The frames only: an exception's own text may hold what was sent.
            frames = "".join(traceback.format_tb(e.__traceback__))
            logger.error("%s failed by %s, which is a defect of the driver:\n%s", call, type(e).__name__, frames)
            failure = Failure(code=grpc.StatusCode.INTERNAL, message="defect of the driver; see its log on this node")
        code = grpc.StatusCode.OK if failure is None else failure.code
        self._metrics.calls.labels(call, code.name).inc()
        if failure is not None:
            logger.info("%s: %s: %s", call, failure.code.name, failure.message)
            await context.abort(failure.code, failure.message)


def read_publication(request: csi_pb2.NodePublishVolumeRequest) -> Publication | Failure:
    """What the specification requires of the message, and what an inline volume must be."""
    capability = request.volume_capability
    if not request.volume_id:
        return invalid("volume_id is missing")
    if not request.target_path:
        return invalid("target_path is missing")
    if not request.HasField("volume_capability"):
        return invalid("volume_capability is missing")
    if not capability.HasField("mount"):
        return invalid("volume_capability is not a mount; the driver has no block devices")
    if not request.readonly:
        return invalid("readOnly is not true; write csi.readOnly: true in the pod's volume")
    group = capability.mount.volume_mount_group
    if group and not (group.isascii() and group.isdigit() and int(group) <= MAX_GID):
        return invalid("volume_mount_group is not the number of a group")
    return Publication(
        volume_id=request.volume_id,
        target=request.target_path,
        gid=int(group) if group else None,
        context=dict(request.volume_context),
        secrets=dict(request.secrets),
    )
