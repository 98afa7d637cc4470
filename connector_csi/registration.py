"""kubelet's plugin registration (k8s.io/kubelet pluginregistration): it finds our socket, and asks who we are."""

import asyncio
import logging
from pathlib import Path

from connector_csi.identity import DRIVER, Context
from connector_csi.proto import registration_pb2, registration_pb2_grpc

logger = logging.getLogger(__name__)


class Registration(registration_pb2_grpc.RegistrationServicer):
    """`refused` gets kubelet's reason if it does not take the driver; the process then ends, and a new one tries."""

    def __init__(self, endpoint: Path) -> None:
        """`endpoint` is the path of the driver's socket on the node."""
        self._endpoint = endpoint
        self.refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def GetInfo(self, request: registration_pb2.InfoRequest, context: Context) -> registration_pb2.PluginInfo:
        return registration_pb2.PluginInfo(
            type="CSIPlugin", name=DRIVER, endpoint=str(self._endpoint), supported_versions=["1.0.0"]
        )

    async def NotifyRegistrationStatus(
        self, request: registration_pb2.RegistrationStatus, context: Context
    ) -> registration_pb2.RegistrationStatusResponse:
        if request.plugin_registered:
            logger.info("registered with kubelet")
        elif not self.refused.done():
            self.refused.set_result(request.error)
        return registration_pb2.RegistrationStatusResponse()
