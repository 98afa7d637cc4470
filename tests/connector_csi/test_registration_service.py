"""Registration with kubelet over a real socket."""

from pathlib import Path

import grpc.aio
import pytest

from connector_csi.proto import registration_pb2, registration_pb2_grpc
from connector_csi.registration_service import RegistrationService
from connector_csi.server import serve


async def test_kubelet_registers_the_driver_after_rejections(sockets: Path, caplog: pytest.LogCaptureFixture) -> None:
    registration = RegistrationService(Path("/plugins/csi.sock"))
    path = sockets / "reg.sock"
    async with (
        serve(path, lambda server: registration_pb2_grpc.add_RegistrationServicer_to_server(registration, server)),
        grpc.aio.insecure_channel(f"unix://{path}") as channel,
    ):
        stub = registration_pb2_grpc.RegistrationStub(channel)
        info = await stub.GetInfo(registration_pb2.InfoRequest())
        assert (info.type, info.name, info.endpoint) == ("CSIPlugin", "connectors-csi", "/plugins/csi.sock")
        assert list(info.supported_versions) == ["1.0.0"]
        assert registration.rejection_reason is None
        for error in ("no", "still no"):
            status = registration_pb2.RegistrationStatus(plugin_registered=False, error=error)
            await stub.NotifyRegistrationStatus(status)
            assert registration.rejection_reason == f"kubelet rejected the driver, and will try again: {error}"
        assert [each.getMessage().rpartition(": ")[2] for each in caplog.records if each.levelname == "ERROR"] == ["no"]
        await stub.NotifyRegistrationStatus(registration_pb2.RegistrationStatus(plugin_registered=True))
    assert registration.rejection_reason is None
