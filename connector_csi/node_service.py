"""The CSI Node service of a driver that knows inline volumes only (CSI specification, "Node Service RPC").

Each message is read once, here, into a Publication or a Failure; all other calls answer UNIMPLEMENTED by themselves.
"""

import logging
import traceback
from collections.abc import Awaitable

import grpc

from connector_csi.failure import Failure, invalid, truncate
from connector_csi.identity_service import RpcContext
from connector_csi.metrics import CsiMetrics
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_csi.publication import parse_publication
from connector_csi.volumes import Volumes
from connector_store.domain.kubeconfig.volume_request import parse_pod

logger = logging.getLogger(__name__)


class NodeService(csi_pb2_grpc.NodeServicer):
    """`name` is the node's, as the API server knows it."""

    def __init__(self, name: str, volumes: Volumes, metrics: CsiMetrics) -> None:
        self._name = name
        self._volumes = volumes
        self._metrics = metrics

    async def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: RpcContext
    ) -> csi_pb2.NodePublishVolumeResponse:
        await self._reply("NodePublishVolume", _describe_volume(request), self._publish(request), context)
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: RpcContext
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        await self._reply("NodeUnpublishVolume", f"volume {request.volume_id}", self._unpublish(request), context)
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: RpcContext
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """VOLUME_MOUNT_GROUP: kubelet tells a pod's fsGroup, and leaves modes and owners to us."""
        capability = csi_pb2.NodeServiceCapability()
        capability.rpc.type = csi_pb2.NodeServiceCapability.RPC.VOLUME_MOUNT_GROUP
        return csi_pb2.NodeGetCapabilitiesResponse(capabilities=[capability])

    async def NodeGetInfo(
        self, request: csi_pb2.NodeGetInfoRequest, context: RpcContext
    ) -> csi_pb2.NodeGetInfoResponse:
        return csi_pb2.NodeGetInfoResponse(node_id=self._name)

    async def _publish(self, request: csi_pb2.NodePublishVolumeRequest) -> Failure | None:
        try:
            publication = parse_publication(request)
            failure = publication if isinstance(publication, Failure) else await self._volumes.publish(publication)
        except Exception as e:
            failure = _log_defect("NodePublishVolume", _describe_volume(request), e)
        if failure is None:
            return None
        # Also what is wrong with the call itself, as a newer release may find, and a defect: the pod has its volume.
        return self._volumes.suppress_after_publish(
            request.volume_id, request.target_path, parse_pod(request.volume_context), failure
        )

    async def _unpublish(self, request: csi_pb2.NodeUnpublishVolumeRequest) -> Failure | None:
        if not request.volume_id:
            return invalid("volume_id is missing")
        if not request.target_path:
            return invalid("target_path is missing")
        return await self._volumes.unpublish(request.volume_id, request.target_path)

    async def _reply(self, method: str, volume: str, work: Awaitable[Failure | None], context: RpcContext) -> None:
        """`volume` is for the log: which, and whose."""
        with self._metrics.call_duration.labels(method).time():
            try:
                failure = await work
            except Exception as e:
                failure = _log_defect(method, volume, e)
        code = grpc.StatusCode.OK if failure is None else failure.code
        self._metrics.calls.labels(method, code.name).inc()
        if failure is not None:
            message = truncate(failure.message)
            logger.info("%s, %s: %s: %s", method, volume, failure.code.name, message)
            await context.abort(failure.code, message)


def _describe_volume(request: csi_pb2.NodePublishVolumeRequest) -> str:
    pod = parse_pod(request.volume_context)
    return f"volume {request.volume_id}" + (f" of pod {pod.namespace}/{pod.name}" if pod else "")


def _log_defect(method: str, volume: str, error: Exception) -> Failure:
    """UNAVAILABLE: whether a pod has the volume may be what could not be told, and then kubelet must not end it."""
    # The frames only: an exception's own text may hold what was sent.
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error(
        "%s, %s failed by %s, which is a defect of the driver:\n%s", method, volume, type(error).__name__, frames
    )
    return Failure(code=grpc.StatusCode.UNAVAILABLE, message="defect of the driver; see its log on this node")
