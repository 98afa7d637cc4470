"""The CSI Node service for inline volumes (CSI specification, "Node Service RPC").

Each message is parsed once, here, into a Publication or a Failure. The generated base class answers all other calls
with UNIMPLEMENTED.
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
    """CSI Node service. `name` is the name of the Node object."""

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
        """Report VOLUME_MOUNT_GROUP: kubelet passes the pod's fsGroup, and the driver sets modes and owners."""
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
        # This includes a call that a newer release finds invalid, and a defect: the pod keeps its volume.
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
        """Await `work`, count and log the result, and abort the call on failure. `volume` describes it in the log."""
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
    """Log a defect and return UNAVAILABLE, which is not final: the pod may have the volume, and must keep it."""
    # Only the frames are logged: the text of an exception may contain parts of the request.
    frames = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__))
    logger.error(
        "%s, %s failed by %s, which is a defect of the driver: %s", method, volume, type(error).__name__, frames
    )
    return Failure(code=grpc.StatusCode.UNAVAILABLE, message="defect of the driver; see its log on this node")
