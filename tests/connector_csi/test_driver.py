"""The whole driver in this process, with an API server that is absent, wrong or healthy."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc.aio
import pytest

from connector_csi.driver import run
from connector_csi.options import DriverOptions, parse_options
from connector_csi.proto import csi_pb2, csi_pb2_grpc, registration_pb2, registration_pb2_grpc
from connector_store.kube.client import KubeClient
from tests.fakes.api_server import FakeApiServer
from tests.fakes.mounts import FakeMounts
from tests.fakes.waiting import until


class Running:
    def __init__(self, options: DriverOptions, stop: asyncio.Event, task: asyncio.Task[int]) -> None:
        self.options, self.stop, self.task = options, stop, task

    async def register(self, *, accepted: bool) -> None:
        """Register the driver as kubelet does when it finds the socket."""
        async with grpc.aio.insecure_channel(f"unix://{self.options.registration_socket}") as channel:
            stub = registration_pb2_grpc.RegistrationStub(channel)
            info = await stub.GetInfo(registration_pb2.InfoRequest(), wait_for_ready=True)
            async with grpc.aio.insecure_channel(f"unix://{info.endpoint}") as driver:
                response = await csi_pb2_grpc.NodeStub(driver).NodeGetInfo(csi_pb2.NodeGetInfoRequest())
                assert response.node_id == "n"
            status = registration_pb2.RegistrationStatus(plugin_registered=accepted, error="" if accepted else "no")
            await stub.NotifyRegistrationStatus(status)


@asynccontextmanager
async def driver(folder: Path, server: FakeApiServer, environ: Mapping[str, str] = {}) -> AsyncIterator[Running]:
    options = parse_options(["--node-name=n", f"--kubelet-root={folder}", "--admin=127.0.0.1:0"], {})
    stop = asyncio.Event()
    async with KubeClient(server.configuration) as client:
        task = asyncio.ensure_future(run(options, client, FakeMounts(), environ, stop))
        try:
            await until(lambda: options.registration_socket.exists() or task.done())
            yield Running(options, stop, task)
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)


async def test_the_driver_registers_and_removes_its_sockets(sockets: Path) -> None:
    async with FakeApiServer().serving() as server, driver(sockets, server) as running:
        await running.register(accepted=True)
        running.stop.set()
        assert await running.task == 0
    assert not running.options.registration_socket.exists()
    assert not running.options.endpoint.exists()


async def ready(address: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as response:
        return response.status, await response.text()


async def test_the_driver_is_not_ready_until_kubelet_accepts_it(
    sockets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with FakeApiServer().serving() as server, driver(sockets, server) as running:
        await running.register(accepted=False)
        address = caplog.text.partition("health and metrics on ")[2].split()[0]
        assert await ready(address) == (503, "kubelet rejected the driver, and will try again: no\n")
        await running.register(accepted=True)
        assert "kubelet" not in (await ready(address))[1]
        running.stop.set()
        assert await running.task == 0


async def test_wrong_settings_end_the_driver(sockets: Path, caplog: pytest.LogCaptureFixture) -> None:
    environ = {"CONNECTORS_ACCESS": "nonsense"}
    async with FakeApiServer().serving() as server, driver(sockets, server, environ) as running:
        assert await running.task == 1
    assert "CONNECTORS_ACCESS" in caplog.text


async def test_the_driver_serves_without_an_api_server(sockets: Path) -> None:
    server = FakeApiServer()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with driver(sockets, server) as running:
            await running.register(accepted=True)
            folder = running.options.pods_folder / "uid" / "volumes" / "kubernetes.io~csi" / "connector"
            folder.mkdir(parents=True)
            async with grpc.aio.insecure_channel(f"unix://{running.options.endpoint}") as channel:
                request = csi_pb2.NodeUnpublishVolumeRequest(volume_id="v", target_path=str(folder / "mount"))
                await csi_pb2_grpc.NodeStub(channel).NodeUnpublishVolume(request)
