"""The CSI Node service of a driver that knows inline volumes only (CSI specification, "Node Service RPC").

Each message is read once, here, into a Publication or a Failure; all other calls answer UNIMPLEMENTED by themselves.
"""

import logging
import traceback
from collections.abc import Awaitable

import grpc

from connector_csi.failure import Failure, invalid, shortened
from connector_csi.identity import Context
from connector_csi.metrics import Metrics
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_csi.publication import read_publication
from connector_csi.volumes import Volumes
from connector_store.domain.kubeconfig.volume import parse_pod

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
        await self._answer("NodePublishVolume", _volume(request), self._publish(request), context)
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: Context
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        await self._answer("NodeUnpublishVolume", f"volume {request.volume_id}", self._unpublish(request), context)
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
        try:
            asked = read_publication(request)
            failure = asked if isinstance(asked, Failure) else await self._volumes.publish(asked)
        except Exception as e:
            failure = _defect("NodePublishVolume", _volume(request), e)
        if failure is None:
            return None
        # Also what is wrong with the call itself, as a newer release may find, and a defect: the pod has its volume.
        return self._volumes.mask(request.volume_id, request.target_path, parse_pod(request.volume_context), failure)

    async def _unpublish(self, request: csi_pb2.NodeUnpublishVolumeRequest) -> Failure | None:
        if not request.volume_id:
            return invalid("volume_id is missing")
        if not request.target_path:
            return invalid("target_path is missing")
        return await self._volumes.unpublish(request.volume_id, request.target_path)

    async def _answer(self, call: str, volume: str, work: Awaitable[Failure | None], context: Context) -> None:
        """`volume` is for the log: which, and whose."""
        with self._metrics.seconds.labels(call).time():
            try:
                failure = await work
            except Exception as e:
                failure = _defect(call, volume, e)
        code = grpc.StatusCode.OK if failure is None else failure.code
        self._metrics.calls.labels(call, code.name).inc()
        if failure is not None:
            message = shortened(failure.message)
            logger.info("%s, %s: %s: %s", call, volume, failure.code.name, message)
            await context.abort(failure.code, message)


def _volume(request: csi_pb2.NodePublishVolumeRequest) -> str:
    pod = parse_pod(request.volume_context)
    return f"volume {request.volume_id}" + (f" of pod {pod.namespace}/{pod.name}" if pod else "")


def _defect(call: str, volume: str, error: Exception) -> Failure:
    """UNAVAILABLE: whether a pod has the volume may be what could not be told, and then kubelet must not end it."""
    # The frames only: an exception's own text may hold what was sent.
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error(
        "%s, %s failed by %s, which is a defect of the driver:\n%s", call, volume, type(error).__name__, frames
    )
    return Failure(code=grpc.StatusCode.UNAVAILABLE, message="defect of the driver; see its log on this node")
