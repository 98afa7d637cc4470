"""Adapter between csi-sanity and a driver for inline volumes: it does what kubelet does and csi-sanity does not.

csi-sanity creates volumes with a controller service and publishes them writable, for no pod. In the adapter, such a
volume is the inline volume of a pod, and publishing adds what kubelet adds: readOnly, the names of the pod, its token.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from connector_csi.proto import csi_pb2, csi_pb2_grpc

Context = grpc.ServicerContext


class KubeletAdapter(csi_pb2_grpc.IdentityServicer, csi_pb2_grpc.NodeServicer, csi_pb2_grpc.ControllerServicer):
    """Forwards all calls to the driver, except those that create and delete volumes."""

    def __init__(self, channel: grpc.Channel, attributes: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self._identity = csi_pb2_grpc.IdentityStub(channel)
        self._node = csi_pb2_grpc.NodeStub(channel)
        self._attributes = dict(attributes)
        self._secrets = dict(secrets)

    def GetPluginInfo(self, request: Any, context: Context) -> Any:
        return forward(self._identity.GetPluginInfo, request, context)

    def GetPluginCapabilities(self, request: Any, context: Context) -> Any:
        response = forward(self._identity.GetPluginCapabilities, request, context)
        response.capabilities.add().service.type = csi_pb2.PluginCapability.Service.CONTROLLER_SERVICE
        return response

    def Probe(self, request: Any, context: Context) -> Any:
        return forward(self._identity.Probe, request, context)

    def NodeGetInfo(self, request: Any, context: Context) -> Any:
        return forward(self._node.NodeGetInfo, request, context)

    def NodeGetCapabilities(self, request: Any, context: Context) -> Any:
        return forward(self._node.NodeGetCapabilities, request, context)

    def NodePublishVolume(self, request: Any, context: Context) -> Any:
        request.readonly = True
        request.secrets.update(self._secrets)
        return forward(self._node.NodePublishVolume, request, context)

    def NodeUnpublishVolume(self, request: Any, context: Context) -> Any:
        return forward(self._node.NodeUnpublishVolume, request, context)

    def ControllerGetCapabilities(self, request: Any, context: Context) -> Any:
        response = csi_pb2.ControllerGetCapabilitiesResponse()
        response.capabilities.add().rpc.type = csi_pb2.ControllerServiceCapability.RPC.CREATE_DELETE_VOLUME
        return response

    def CreateVolume(self, request: Any, context: Context) -> Any:
        volume = csi_pb2.Volume(volume_id=request.name, volume_context=self._attributes)
        return csi_pb2.CreateVolumeResponse(volume=volume)

    def DeleteVolume(self, request: Any, context: Context) -> Any:
        return csi_pb2.DeleteVolumeResponse()


def forward(call: Any, request: Any, context: Context) -> Any:
    try:
        return call(request)
    except grpc.RpcError as error:
        context.abort(error.code(), error.details() or "")


@contextmanager
def serve_adapter(
    socket: Path, driver: Path, attributes: Mapping[str, str], secrets: Mapping[str, str]
) -> Iterator[None]:
    """Serve the adapter on `socket`, in front of the socket `driver`."""
    with grpc.insecure_channel(f"unix://{driver}") as channel, ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        servicer = KubeletAdapter(channel, attributes, secrets)
        csi_pb2_grpc.add_IdentityServicer_to_server(servicer, server)
        csi_pb2_grpc.add_NodeServicer_to_server(servicer, server)
        csi_pb2_grpc.add_ControllerServicer_to_server(servicer, server)
        server.add_insecure_port(f"unix://{socket}")
        server.start()
        try:
            yield
        finally:
            server.stop(1).wait()
