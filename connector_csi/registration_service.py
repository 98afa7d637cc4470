"""kubelet's plugin registration (k8s.io/kubelet pluginregistration): kubelet finds the socket and calls GetInfo."""

import logging
from pathlib import Path

from connector_csi.identity_service import DRIVER_NAME, RpcContext
from connector_csi.proto import registration_pb2, registration_pb2_grpc

logger = logging.getLogger(__name__)


class RegistrationService(registration_pb2_grpc.RegistrationServicer):
    """Registration service. `rejection_reason` is None if kubelet accepted the driver, or did not respond yet.

    kubelet tries again as long as the socket exists, after pauses of up to two minutes (kubernetes
    pkg/kubelet/pluginmanager/reconciler). It rejects the driver while it cannot reach the API server. The driver does
    not exit on a rejection, because each restart would come later.
    """

    def __init__(self, endpoint: Path) -> None:
        """Create the service. `endpoint` is the path of the driver's socket on the node."""
        self._endpoint = endpoint
        self.rejection_reason: str | None = None

    async def GetInfo(self, request: registration_pb2.InfoRequest, context: RpcContext) -> registration_pb2.PluginInfo:
        return registration_pb2.PluginInfo(
            type="CSIPlugin", name=DRIVER_NAME, endpoint=str(self._endpoint), supported_versions=["1.0.0"]
        )

    async def NotifyRegistrationStatus(
        self, request: registration_pb2.RegistrationStatus, context: RpcContext
    ) -> registration_pb2.RegistrationStatusResponse:
        previous_reason, self.rejection_reason = self.rejection_reason, None
        if request.plugin_registered:
            logger.info("registered with kubelet")
        else:
            self.rejection_reason = f"kubelet rejected the driver, and will try again: {request.error}"
            if previous_reason is None:
                logger.error("%s", self.rejection_reason)
        return registration_pb2.RegistrationStatusResponse()
