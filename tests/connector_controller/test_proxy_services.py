from collections.abc import AsyncIterator

import pytest

from connector_controller.proxy_services import ProxyServices
from connector_controller.services import NAME_NOT_ALLOWED, SERVICE_PROXY_NAME
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import MANAGED_BY, MANAGER, parse_service
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import SERVICES
from tests.fakes.api_server import FakeApiServer, refusal

KEY = ObjectKey("team-a", "k8s")
PATH = SERVICES.path("team-a", "c-k8s")


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient, settings: Settings) -> None:
        self.server, self.client = server, client
        self.changed: list[ObjectKey] = []
        self.services = ProxyServices(client, settings, self.changed.append)

    async def read_service(self):
        return await self.client.get(PATH)

    async def observe(self) -> None:
        """Deliver the state of the watch."""
        self.services.cache_of(None).replace((parse_service(await self.read_service()),))

    @property
    def writes(self) -> list[str]:
        return [method for method, _, _ in self.server.requests if method != "GET"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        yield World(server, client, Settings())


async def test_the_service_is_created_once_and_is_ready(world) -> None:
    assert (await world.services.ensure(KEY, "u1")).holds
    service = await world.read_service()
    assert service["spec"]["externalName"] == "connectors-proxy.connectors-system.svc.cluster.local"
    assert (await world.services.ensure(KEY, "u1")).holds, "also before the watch has brought it"
    await world.observe()
    assert world.changed == [KEY]
    assert (await world.services.ensure(KEY, "u1")).holds
    assert world.writes == ["POST"]


async def test_an_edited_service_is_repaired(world) -> None:
    await world.services.ensure(KEY, "u1")
    await world.client.patch(PATH, {"spec": {"externalName": "evil"}})
    await world.observe()
    assert (await world.services.ensure(KEY, "u1")).holds
    service = await world.read_service()
    assert service["spec"]["externalName"].startswith("connectors-proxy.")
    assert service["metadata"]["labels"] == {MANAGED_BY: MANAGER, SERVICE_PROXY_NAME: "connectors.alauda.io"}


async def test_a_service_without_our_label_is_not_changed(world) -> None:
    await world.services.ensure(KEY, "u1")
    await world.client.patch(PATH, {"metadata": {"labels": None}, "spec": {"externalName": "evil"}})
    before = len(world.writes)
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceConflict")
    assert len(world.writes) == before


async def test_a_foreign_service_is_reported_and_not_changed(world) -> None:
    await world.server.put(SERVICES, {"metadata": {"name": "c-k8s", "namespace": "team-a"}, "spec": {"ports": []}})
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceConflict")
    await world.services.remove(KEY)
    assert world.writes == []


async def test_names_that_are_not_allowed(world) -> None:
    for name in ("x" * 62, "a.b"):
        assert await world.services.ensure(ObjectKey("team-a", name), "u1") == NAME_NOT_ALLOWED
        await world.services.remove(ObjectKey("team-a", name))
    assert world.server.requests == []


async def test_without_the_proxys_own_service_the_alias_is_not_ready(world) -> None:
    world.services.proxy_exists = False
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceNotFound")
    assert "connectors-proxy" in finding.message


async def test_without_a_proxy_service_in_the_settings_the_service_is_deleted(world) -> None:
    await world.services.ensure(KEY, "u1")
    await world.observe()
    bare = World(world.server, world.client, Settings(proxy_service=None))
    await bare.observe()
    assert (await bare.services.ensure(KEY, "u1")).reason == "NonProxy"
    assert bare.writes[-1] == "DELETE"


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_refusal_is_shown_in_the_condition(world, status) -> None:
    world.server.faults.append(
        lambda request: refusal(status, "Forbidden", "exceeded quota") if request.method == "POST" else None
    )
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceNotFound")
    assert "exceeded quota" in finding.message


async def test_an_api_server_that_is_down_is_an_error(world) -> None:
    world.server.faults.append(lambda request: refusal(500, "InternalError", "etcd"))
    with pytest.raises(ApiError):
        await world.services.ensure(KEY, "u1")


async def test_remove_deletes_only_the_cached_service(world) -> None:
    await world.services.ensure(KEY, "u1")
    await world.observe()
    await world.services.remove(KEY)
    with pytest.raises(ApiError, match="not found"):
        await world.read_service()
    await world.services.remove(KEY)
    assert world.writes == ["POST", "DELETE", "DELETE"], "the second, before the watch shows it, finds nothing"
    world.server.faults.append(lambda request: refusal(500, "InternalError", "etcd"))
    with pytest.raises(ApiError):
        await world.services.remove(KEY)
