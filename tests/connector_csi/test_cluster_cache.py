"""The driver's cache of the cluster: Connectors, CA, settings and access, and no Secret."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import jwt
import pytest

from connector_csi.cluster_cache import ClusterCache
from connector_csi.metrics import CsiMetrics
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Refused
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import MANAGED_BY, MANAGER
from connector_store.domain.objects.models import Connector
from connector_store.kube import review
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONFIG_MAPS, CONNECTOR_CLASSES, CONNECTORS, SERVICES
from connector_store.kube.server_clock import ServerClock
from tests.fakes.api_server import FakeApiServer, refusal, user
from tests.fakes.waiting import PATIENCE, until

KEY = ObjectKey("team-a", "k8s")
SYSTEM = "connectors-system"


def connector(cls: str = "k8s") -> dict:
    return {
        "metadata": {"name": "k8s", "namespace": "team-a"},
        "spec": {"connectorClassName": cls, "address": "https://target:6443", "auth": {"secretRef": {"name": "s"}}},
    }


def config_map(name: str, **data: str) -> dict:
    return {"metadata": {"name": name, "namespace": SYSTEM}, "data": data}


@asynccontextmanager
async def running(
    server: FakeApiServer,
    metrics: CsiMetrics | None = None,
    *,
    token: str | None = None,
    server_clock: ServerClock | None = None,
) -> AsyncIterator[ClusterCache]:
    """Run a cache. `token` is the driver's own."""

    async def authorization() -> str | None:
        return f"Bearer {token}" if token else None

    configuration = server.configuration._replace(authorization=authorization)
    async with KubeClient(configuration, server_clock=server_clock) as client:
        cluster = ClusterCache(client, {}, metrics or CsiMetrics(), read_jitter=0.05)
        task = asyncio.ensure_future(cluster.run())
        try:
            await asyncio.wait([task, asyncio.ensure_future(cluster.synced.wait())], return_when="FIRST_COMPLETED")
            if task.done():
                await task
            await asyncio.wait_for(cluster.load([KEY]), PATIENCE)
            yield cluster
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as server:
        await server.put(CONNECTORS, connector())
        await server.put(CONFIG_MAPS, config_map("connectors-proxy-ca", **{"ca.crt": "PEM"}))
        yield server


async def test_connectors_and_the_ca_are_read(server: FakeApiServer) -> None:
    metrics = CsiMetrics()
    async with running(server, metrics) as cluster:
        cached = cluster.connector(KEY)
        assert isinstance(cached, Connector)
        assert cached.address.host == "target"
        assert cluster.connector(ObjectKey("team-a", "absent")) is None
        assert cluster.ca == b"PEM"
        assert b"connector_store_synced 1.0" in metrics.render()


@pytest.mark.slow  # a healthy watch proves its age once a second, later on a busy machine
async def test_the_state_is_stale_when_a_watch_fails_for_too_long(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, config_map("connectors-config", **{"watch-timeout": "1", "stale-after": "32"}))
    metrics = CsiMetrics()
    async with running(server, metrics) as cluster:
        assert cluster.stale_reason is None
        await until(lambda: b'connector_watch_age_seconds{kind="Service"} 0.' in metrics.render())
        cluster.settings = replace(cluster.settings, stale_after=3.0)
        server.faults.append(lambda request: refusal(403, "Forbidden", "no") if "services" in request.path else None)
        server.drop_streams()
        await until(lambda: "kind Service" in (cluster.stale_reason or ""))
        server.faults.clear()
        cluster.settings = replace(cluster.settings, stale_after=32.0)
        await until(lambda: cluster.stale_reason is None)


def alias(uid: str, **spec: str) -> dict:
    owner = {"apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector", "name": KEY.name, "uid": uid}
    metadata = {"name": "c-k8s", "namespace": KEY.namespace, "labels": {MANAGED_BY: MANAGER}}
    return {
        "metadata": metadata | {"ownerReferences": [owner]},
        "spec": {"type": "ExternalName", "externalName": Settings().proxy_host} | spec,
    }


async def test_an_alias_is_verified_if_its_service_leads_to_the_proxy(server: FakeApiServer) -> None:
    async with running(server) as cluster:
        assert not cluster.is_alias_verified(KEY)
        cached = cluster.connector(KEY)
        assert cached is not None
        await server.put(SERVICES, alias(cached.uid, externalName="evil.example"))
        await server.put(SERVICES, alias(cached.uid))
        await until(lambda: cluster.is_alias_verified(KEY))
        await server.put(SERVICES, alias(cached.uid, externalName="evil.example"))
        await until(lambda: not cluster.is_alias_verified(KEY))
        assert not cluster.is_alias_verified(ObjectKey("team-a", "absent"))


async def test_without_a_proxy_service_no_service_is_read(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, config_map("connectors-config", **{"proxy-service": ""}))
    async with running(server) as cluster:
        assert not cluster.is_alias_verified(KEY)
    assert not [path for _, path, _ in server.requests if path.endswith("/services")]


async def test_only_requested_connectors_are_cached(server: FakeApiServer) -> None:
    other = ObjectKey("team-b", "other")
    raw = connector() | {"metadata": {"name": other.name, "namespace": other.namespace}}
    await server.put(CONNECTORS, raw)
    async with running(server) as cluster:
        assert cluster.connector(other) is None
        await cluster.load([other])
        assert cluster.connector(other) is not None


async def test_a_status_update_causes_no_read(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector() | {"metadata": {**connector()["metadata"], "generation": 1}})
    async with running(server) as cluster:
        assert await read_count(server) == 1
        update = {"metadata": {**connector()["metadata"], "generation": 1}, "status": {"conditions": []}}
        await server.put(CONNECTORS, connector() | update)
        await server.put(CONNECTORS, connector("other") | {"metadata": {**connector()["metadata"], "generation": 2}})
        await until(lambda: getattr(cluster.connector(KEY), "class_name", "") == "other")
        assert await read_count(server) == 2


async def read_count(server: FakeApiServer) -> int:
    """Return how often the Connector was read."""
    path = CONNECTORS.path(KEY.namespace)
    return sum(request_path == path and "watch" not in query for _, request_path, query in server.requests)


async def test_a_new_ca_is_used_and_a_deleted_config_map_leaves_the_old_one(server: FakeApiServer) -> None:
    async with running(server) as cluster:
        await server.put(CONFIG_MAPS, config_map("connectors-proxy-ca", **{"ca.crt": "NEW"}))
        await until(lambda: cluster.ca == b"NEW")
        await server.delete(CONFIG_MAPS, "connectors-proxy-ca", SYSTEM)
        await server.put(CONNECTORS, connector("other"))
        await until(lambda: getattr(cluster.connector(KEY), "class_name", "") == "other")
        assert cluster.ca == b"NEW"


async def test_a_connector_of_a_foreign_class_is_not_returned(server: FakeApiServer) -> None:
    spec = {"auth": {"types": [{"name": "basic", "secretType": "kubernetes.io/basic-auth"}]}}
    await server.put(CONNECTOR_CLASSES, {"metadata": {"name": "git"}, "spec": spec})
    await server.put(CONNECTORS, connector("git"))
    async with running(server) as cluster:
        assert cluster.connector(KEY) is None


async def test_no_secret_is_read(server: FakeApiServer) -> None:
    async with running(server):
        pass
    assert not [path for _, path, _ in server.requests if "secrets" in path]


async def test_settings_come_from_the_config_map(server: FakeApiServer) -> None:
    data = {"audience": "other", "ca-configmap": "our-ca"}
    await server.put(CONFIG_MAPS, config_map("connectors-config", **data))
    await server.put(CONFIG_MAPS, config_map("our-ca", **{"ca.crt": "OURS"}))
    async with running(server) as cluster:
        assert cluster.settings.audience == "other"
        assert cluster.ca == b"OURS"


async def test_the_namespaces_of_the_settings_are_followed(server: FakeApiServer) -> None:
    metrics = CsiMetrics()
    await server.put(CONFIG_MAPS, config_map("connectors-config", namespaces="team-b"))
    async with running(server, metrics) as cluster:
        assert not cluster.settings.serves(KEY.namespace)
        await server.put(CONFIG_MAPS, config_map("connectors-config", namespaces="team-a,team-b", wrong="1"))
        await until(lambda: cluster.settings.serves(KEY.namespace))
        assert "connector_settings_unknown_keys 1.0" in metrics.render().decode()
        await server.put(CONFIG_MAPS, config_map("connectors-config", namespaces="Team-B"))
        await until(lambda: "connector_settings_rejected 1.0" in metrics.render().decode())
        assert cluster.settings.serves(KEY.namespace)


async def test_wrong_settings_are_logged_until_they_are_fixed(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(CONFIG_MAPS, config_map("connectors-config", access="nonsense"))
    async with KubeClient(server.configuration) as client:
        cluster = ClusterCache(client, {}, CsiMetrics())
        task = asyncio.ensure_future(cluster.run())
        await until(lambda: "connectors-config key access" in caplog.text)
        assert not cluster.synced.is_set()
        await server.put(CONFIG_MAPS, config_map("connectors-config", access="get:connectors"))
        await until(cluster.synced.is_set)
        assert str(cluster.settings.access) == "get:connectors"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_wrong_environment_is_an_error(server: FakeApiServer) -> None:
    async with KubeClient(server.configuration) as client:
        with pytest.raises(ParseError, match="CONNECTORS_ACCESS"):
            await ClusterCache(client, {"CONNECTORS_ACCESS": "nonsense"}, CsiMetrics()).run()


async def test_a_refusal_is_not_cached(server: FakeApiServer) -> None:
    token = jwt.encode({"aud": "connectors-proxy"}, "k" * 32)
    server.users[token] = user("u")
    async with running(server) as cluster:
        assert isinstance(await cluster.access.check(token, KEY), Refused)
        server.allowed.add(("u", "team-a/k8s"))
        assert isinstance(await cluster.access.check(token, KEY), Granted)


async def test_a_token_expires_by_the_api_servers_clock(server: FakeApiServer) -> None:
    """The node's clock is an hour ahead."""

    class ClockBehind(ServerClock):
        def now(self) -> float:
            return time.time() - 3600

    token = jwt.encode({"aud": "connectors-proxy", "exp": time.time() - 1800}, "k" * 32)
    server.users[token] = user("u")
    server.allowed.add(("u", "team-a/k8s"))
    async with running(server, server_clock=ClockBehind()) as cluster:
        assert isinstance(await cluster.access.check(token, KEY), Granted)


async def test_all_pods_of_a_node_are_reviewed_at_once(server: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may need longer for so many reviews.
    monkeypatch.setattr(review, "TIMEOUT", 120.0)
    own, *tokens = (jwt.encode({"aud": "connectors-proxy", "iss": "us", "n": n}, "k" * 32) for n in range(251))
    server.users |= dict.fromkeys(tokens, user("u"))
    server.allowed.add(("u", "team-a/k8s"))
    async with running(server, token=own) as cluster:
        results = await asyncio.gather(*(cluster.access.check(each, KEY) for each in tokens))
        assert all(isinstance(each, Granted) for each in results)
