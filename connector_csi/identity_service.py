"""The CSI Identity service (CSI specification, "Identity Service RPC")."""

from collections.abc import Callable
from typing import Any, Final

import grpc.aio

from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_store.version import VERSION

DRIVER_NAME: Final = "connectors-csi"

RpcContext = grpc.aio.ServicerContext[Any, Any]


class IdentityService(csi_pb2_grpc.IdentityServicer):
    """CSI Identity service. `is_ready` is False until the cluster was listed once.

    The driver serves existing volumes before that, too.
    """

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready

    async def GetPluginInfo(
        self, request: csi_pb2.GetPluginInfoRequest, context: RpcContext
    ) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(name=DRIVER_NAME, vendor_version=VERSION)

    async def GetPluginCapabilities(
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: RpcContext
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """Report no capabilities, because the driver has no controller service."""
        return csi_pb2.GetPluginCapabilitiesResponse()

    async def Probe(self, request: csi_pb2.ProbeRequest, context: RpcContext) -> csi_pb2.ProbeResponse:
        response = csi_pb2.ProbeResponse()
        response.ready.value = self._is_ready()
        return response
