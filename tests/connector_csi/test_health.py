"""Health endpoints report what kubelet would see."""

import asyncio
import contextlib
from pathlib import Path

import aiohttp
import grpc.aio
import pytest

from connector_csi import server
from connector_csi.health import serve_admin
from connector_csi.identity_service import IdentityService
from connector_csi.metrics import CsiMetrics
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_csi.server import serve


async def get(address: tuple[str, int], path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address[0]}:{address[1]}{path}") as response:
        return response.status, await response.text()


def serve_admin_with(
    endpoint: Path, registration: Path, reasons: list[str]
) -> contextlib.AbstractAsyncContextManager[tuple[str, int]]:
    return serve_admin(
        "127.0.0.1",
        0,
        endpoint=endpoint,
        registration=registration,
        metrics=CsiMetrics(),
        not_ready_reason=lambda: reasons[0] if reasons else None,
    )


async def test_healthy_while_both_sockets_answer(sockets: Path) -> None:
    endpoint, registration = sockets / "csi.sock", sockets / "reg.sock"
    identity = IdentityService(lambda: True)
    reasons: list[str] = ["the settings are not read yet"]
    async with serve_admin_with(endpoint, registration, reasons) as address:
        async with (
            serve(endpoint, lambda server: csi_pb2_grpc.add_IdentityServicer_to_server(identity, server)),
            serve(registration),
        ):
            assert await get(address, "/healthz") == (200, "ok\n")
            assert await get(address, "/readyz") == (503, "the settings are not read yet\n")
            reasons.clear()
            assert await get(address, "/readyz") == (200, "ok\n")
            registration.unlink()
            assert await get(address, "/healthz") == (503, "registration socket: FileNotFoundError\n")
            assert await get(address, "/readyz") == (503, "registration socket: FileNotFoundError\n")
        status, text = await get(address, "/metrics")
        assert status == 200
        assert "connector_csi_volumes" in text
        assert 'connector_build_info{component="csi"' in text
        assert "process_resident_memory_bytes" in text


@pytest.mark.parametrize("is_served", [True, False])
async def test_a_driver_that_does_not_answer_is_not_healthy(sockets: Path, is_served: bool) -> None:
    endpoint, registration = sockets / "csi.sock", sockets / "reg.sock"
    async with (
        serve(registration),
        serve(endpoint if is_served else sockets / "other.sock"),
        serve_admin_with(endpoint, registration, []) as address,
    ):
        status, text = await get(address, "/healthz")
    assert status == 503
    assert text == f"driver socket: {'UNIMPLEMENTED' if is_served else 'UNAVAILABLE'}\n"


class Waiting(csi_pb2_grpc.NodeServicer):
    """Every publish waits for an API server."""

    def __init__(self) -> None:
        self.started, self.resume = asyncio.Event(), asyncio.Event()

    async def NodePublishVolume(self, request: object, context: object) -> csi_pb2.NodePublishVolumeResponse:
        self.started.set()
        await self.resume.wait()
        return csi_pb2.NodePublishVolumeResponse()


async def test_a_driver_at_its_maximum_of_calls_is_healthy(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CALLS", 1)
    endpoint, registration, node = sockets / "csi.sock", sockets / "reg.sock", Waiting()
    async with (
        serve(registration),
        serve(
            endpoint,
            lambda server: csi_pb2_grpc.add_NodeServicer_to_server(node, server),
            lambda server: csi_pb2_grpc.add_IdentityServicer_to_server(IdentityService(lambda: True), server),
        ),
        serve_admin_with(endpoint, registration, []) as address,
        grpc.aio.insecure_channel(f"unix://{endpoint}") as channel,
    ):
        call = csi_pb2_grpc.NodeStub(channel).NodePublishVolume(csi_pb2.NodePublishVolumeRequest())
        await node.started.wait()
        assert await get(address, "/healthz") == (200, "ok\n")
        node.resume.set()
        await call
