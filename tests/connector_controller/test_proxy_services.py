from collections.abc import AsyncIterator

import pytest

from connector_controller.proxy_services import ProxyServices
from connector_controller.services import NAME_NOT_ALLOWED
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
        """What the watch would bring."""
        self.services.cache_of(None).replace((parse_service(await self.read_service()),))

    @property
    def writes(self) -> list[str]:
        return [method for method, _, _ in self.server.requests if method != "GET"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        yield World(server, client, Settings())


async def test_it_is_made_once_and_seen_to_be_good(world) -> None:
    assert (await world.services.ensure(KEY, "u1")).holds
    service = await world.read_service()
    assert service["spec"]["externalName"] == "connectors-proxy.connectors-system.svc.cluster.local"
    assert (await world.services.ensure(KEY, "u1")).holds, "also before the watch has brought it"
    await world.observe()
    assert world.changed == [KEY]
    assert (await world.services.ensure(KEY, "u1")).holds
    assert world.writes == ["POST"]


async def test_an_edited_one_is_repaired(world) -> None:
    await world.services.ensure(KEY, "u1")
    await world.client.patch(PATH, {"spec": {"externalName": "evil"}})
    await world.observe()
    assert (await world.services.ensure(KEY, "u1")).holds
    service = await world.read_service()
    assert service["spec"]["externalName"].startswith("connectors-proxy.")
    assert service["metadata"]["labels"] == {MANAGED_BY: MANAGER}


async def test_one_without_our_label_is_let_alone_whoever_owns_it(world) -> None:
    await world.services.ensure(KEY, "u1")
    await world.client.patch(PATH, {"metadata": {"labels": None}, "spec": {"externalName": "evil"}})
    before = len(world.writes)
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceConflict")
    assert len(world.writes) == before


async def test_somebody_elses_is_let_alone_and_reported_without_a_write(world) -> None:
    await world.server.put(SERVICES, {"metadata": {"name": "c-k8s", "namespace": "team-a"}, "spec": {"ports": []}})
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceConflict")
    await world.services.remove(KEY)
    assert world.writes == []


async def test_names_that_cannot_be(world) -> None:
    for name in ("x" * 62, "a.b"):
        assert await world.services.ensure(ObjectKey("team-a", name), "u1") == NAME_NOT_ALLOWED
        await world.services.remove(ObjectKey("team-a", name))
    assert world.server.requests == []


async def test_without_the_proxys_own_service_it_leads_nowhere(world) -> None:
    world.services.proxy_exists = False
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceNotFound")
    assert "connectors-proxy" in finding.message


async def test_no_proxy_service_in_the_settings_takes_it_away(world) -> None:
    await world.services.ensure(KEY, "u1")
    await world.observe()
    bare = World(world.server, world.client, Settings(proxy_service=None))
    await bare.observe()
    assert (await bare.services.ensure(KEY, "u1")).reason == "NonProxy"
    assert bare.writes[-1] == "DELETE"


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_refusal_is_told_in_the_condition(world, status) -> None:
    world.server.faults.append(
        lambda request: refusal(status, "Forbidden", "exceeded quota") if request.method == "POST" else None
    )
    finding = await world.services.ensure(KEY, "u1")
    assert (finding.holds, finding.reason) == (False, "ProxyServiceNotFound")
    assert "exceeded quota" in finding.message


async def test_an_api_server_that_is_away_is_no_finding(world) -> None:
    world.server.faults.append(lambda request: refusal(500, "InternalError", "etcd"))
    with pytest.raises(ApiError):
        await world.services.ensure(KEY, "u1")


async def test_removing_deletes_just_the_one_that_was_seen(world) -> None:
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
