"""kubelet's side of registration, over a real socket."""

from pathlib import Path

import grpc.aio
import pytest

from connector_csi.proto import registration_pb2, registration_pb2_grpc
from connector_csi.registration import Registration
from connector_csi.server import serving


@pytest.mark.parametrize("registered", [True, False])
async def test_kubelet_asks_and_tells(sockets: Path, registered: bool) -> None:
    registration = Registration(Path("/plugins/csi.sock"))
    path = sockets / "reg.sock"
    async with (
        serving(path, lambda server: registration_pb2_grpc.add_RegistrationServicer_to_server(registration, server)),
        grpc.aio.insecure_channel(f"unix://{path}") as channel,
    ):
        stub = registration_pb2_grpc.RegistrationStub(channel)
        info = await stub.GetInfo(registration_pb2.InfoRequest())
        assert (info.type, info.name, info.endpoint) == ("CSIPlugin", "connectors-csi", "/plugins/csi.sock")
        assert list(info.supported_versions) == ["1.0.0"]
        for _ in range(2):
            status = registration_pb2.RegistrationStatus(plugin_registered=registered, error="" if registered else "no")
            await stub.NotifyRegistrationStatus(status)
    assert registration.refused.done() is not registered
    if not registered:
        assert registration.refused.result() == "no"
