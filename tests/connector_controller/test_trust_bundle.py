"""ClusterTrustBundle with a small API server. tests/cluster/controller uses the real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from connector_controller.trust_bundle import TrustBundle, find_resource
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import MANAGED_BY, MANAGER
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import NAMESPACES, Resource
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import until

NAME = "connectors-proxy-ca"
BUNDLES = Resource("certificates.k8s.io", "v1", "clustertrustbundles", "ClusterTrustBundle")


class World:
    """API server that has the kind in `versions`. `pem` is what callers must trust."""

    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server, self.client = server, client
        self.versions = ["v1"]
        self.pem: bytes | None = b"PEM"
        self.bundle = TrustBundle(client, Settings(), lambda: self.pem, retry_delay=0.01)
        server.faults.append(self._discovery)

    def _discovery(self, request: web.Request) -> web.Response | None:
        base, _, version = request.path.rpartition("/")
        if base != "/apis/certificates.k8s.io":
            return None
        kinds = ["certificatesigningrequests", *(["clustertrustbundles"] if version in self.versions else [])]
        return web.json_response({"resources": [{"name": each} for each in kinds]})

    async def text(self) -> str | None:
        try:
            bundle: dict[str, Any] = await self.client.get(BUNDLES.path(None, NAME))
        except ApiError:
            return None
        return str(bundle["spec"]["trustBundle"])

    async def until_text(self, expected: str) -> None:
        for _ in range(12000):
            if await self.text() == expected:
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"it does not say {expected}")

    async def until_seen(self, expected: str) -> None:
        """Wait until the controller's watch has reported the text. Before that, it may write the bundle again."""
        await self.until_text(expected)
        await until(lambda: ((self.bundle._bundle or {}).get("spec") or {}).get("trustBundle") == expected)

    @property
    def writes(self) -> list[str]:
        return [method for method, _, _ in self.server.requests if method != "GET"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.bundle.run(self.bundle.reconcile))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        await server.put(NAMESPACES, {"metadata": {"name": "connectors-system"}})
        yield World(server, client)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param(["v1", "v1beta1"], "v1", id="both: the newest"),
        pytest.param(["v1beta1"], "v1beta1", id="the beta one"),
        pytest.param([], None, id="neither"),
    ],
)
async def test_the_newest_version_of_the_kind_is_found(world: World, versions: list[str], expected: str | None) -> None:
    world.versions = versions
    resource = await find_resource(world.client)
    assert (resource.version if resource else None) == expected


async def test_a_missing_group_has_no_kind() -> None:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        assert await find_resource(client) is None


async def test_the_bundle_is_created_once_and_follows_the_ca(world: World) -> None:
    async with world.running():
        await world.until_seen("PEM")
        world.pem = b"NEXT"
        world.bundle.enqueue()
        await world.until_seen("NEXT")
        world.bundle.enqueue()
        await until(lambda: len(world.bundle.queue) == 0)
    assert world.writes == ["POST", "PATCH"]
    bundle = await world.client.get(BUNDLES.path(None, NAME))
    assert bundle["metadata"]["labels"] == {MANAGED_BY: MANAGER}
    [owner] = bundle["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], bool(owner["uid"])) == ("Namespace", "connectors-system", True)


async def test_a_changed_or_deleted_bundle_is_restored(world: World) -> None:
    async with world.running():
        await world.until_text("PEM")
        await world.client.patch(BUNDLES.path(None, NAME), {"spec": {"trustBundle": "EVIL"}})
        await world.until_text("PEM")
        await world.server.delete(BUNDLES, NAME)
        await world.until_text("PEM")


async def test_a_foreign_bundle_is_not_changed_and_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.server.put(BUNDLES, {"metadata": {"name": NAME}, "spec": {"trustBundle": "THEIRS"}})
    async with world.running():
        await until(lambda: "so it is not changed" in caplog.text)
        world.bundle.enqueue()
        await until(lambda: len(world.bundle.queue) == 0)
    assert await world.text() == "THEIRS"
    assert caplog.text.count("so it is not changed") == 1
    assert world.writes == []


async def test_without_a_ca_there_is_no_bundle(world: World) -> None:
    world.pem = None
    async with world.running():
        world.bundle.enqueue()
        await until(lambda: any(path.endswith("clustertrustbundles") for _, path, _ in world.server.requests))
        world.pem = b"PEM"
        world.bundle.enqueue()
        await world.until_text("PEM")
    assert set(world.writes) == {"POST"}


async def test_without_the_kind_it_returns_at_once(world: World) -> None:
    world.versions = []
    await asyncio.wait_for(world.bundle.run(world.bundle.reconcile), 120)
    assert world.writes == []


async def test_a_failed_read_of_the_kinds_is_retried(world: World, caplog: pytest.LogCaptureFixture) -> None:
    away = [refusal(503, "ServiceUnavailable", "starting") for _ in range(2)]
    world.server.faults.insert(0, lambda _: away.pop() if away else None)
    async with world.running():
        await world.until_text("PEM")
    assert "cannot find out" in caplog.text


@pytest.mark.parametrize("status", [409, 500])
async def test_an_existing_bundle_is_not_an_error_and_other_refusals_are(world: World, status: int) -> None:
    world.server.faults.append(lambda request: refusal(status, "x", "x") if request.method == "POST" else None)
    if status == 409:
        await world.bundle.reconcile(NAME)
        return
    with pytest.raises(ApiError):
        await world.bundle.reconcile(NAME)
