"""The CSI Identity service over a real socket."""

from importlib.metadata import version
from pathlib import Path

import grpc.aio

from connector_csi.identity_service import IdentityService
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_csi.server import serve


async def test_the_service_reports_its_name_and_readiness(sockets: Path) -> None:
    ready = [False]
    identity = IdentityService(lambda: ready[0])
    path = sockets / "csi.sock"
    async with (
        serve(path, lambda server: csi_pb2_grpc.add_IdentityServicer_to_server(identity, server)),
        grpc.aio.insecure_channel(f"unix://{path}") as channel,
    ):
        stub = csi_pb2_grpc.IdentityStub(channel)
        info = await stub.GetPluginInfo(csi_pb2.GetPluginInfoRequest())
        assert (info.name, info.vendor_version) == ("connectors-csi", version("kubernetes-connector"))
        assert not (await stub.GetPluginCapabilities(csi_pb2.GetPluginCapabilitiesRequest())).capabilities
        for expected in (False, True):
            ready[0] = expected
            assert (await stub.Probe(csi_pb2.ProbeRequest())).ready.value is expected
