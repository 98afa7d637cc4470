"""The CSI Node service of a driver that knows inline volumes only (CSI specification, "Node Service RPC").

Each message is read once, here, into a Publication or a Failure; all other calls answer UNIMPLEMENTED by themselves.
"""

import logging
import traceback
from collections.abc import Awaitable

import grpc

from connector_csi.failure import Failure, invalid
from connector_csi.identity import Context
from connector_csi.metrics import Metrics
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_csi.publication import read_publication
from connector_csi.volumes import Volumes

logger = logging.getLogger(__name__)


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
