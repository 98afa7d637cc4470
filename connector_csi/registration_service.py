"""kubelet's plugin registration (k8s.io/kubelet pluginregistration): it finds our socket, and asks who we are."""

import logging
from pathlib import Path

from connector_csi.identity_service import DRIVER_NAME, RpcContext
from connector_csi.proto import registration_pb2, registration_pb2_grpc

logger = logging.getLogger(__name__)


class RegistrationService(registration_pb2_grpc.RegistrationServicer):
    """`refused` says why kubelet does not take the driver; None while it does, or has not said.

    kubelet itself asks again for as long as the socket is there, after pauses of up to two minutes (kubernetes
    pkg/kubelet/pluginmanager/reconciler). It refuses while it cannot reach the API server, and a process that ended for
    that would come back later and later.
    """

    def __init__(self, endpoint: Path) -> None:
        """`endpoint` is the path of the driver's socket on the node."""
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
            self.rejection_reason = f"kubelet does not take the driver, and will try again: {request.error}"
            if previous_reason is None:
                logger.error("%s", self.rejection_reason)
        return registration_pb2.RegistrationStatusResponse()
