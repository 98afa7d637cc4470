"""One term with a fake API server and a real target: what it writes, and that it comes to rest."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest
from prometheus_client import generate_latest

from connector_controller import controller
from connector_controller.controller import ControllerOptions, Term
from connector_controller.metrics import ControllerMetrics
from connector_store import resolver
from connector_store.domain.config.settings import Settings
from connector_store.domain.objects.credential_kinds import is_supported
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import (
    CONFIG_MAPS,
    CONNECTOR_CLASSES,
    CONNECTORS,
    EVENTS,
    SECRETS,
    SERVICES,
    Resource,
)
from connector_store.probes import Prober
from connector_store.resolver import Resolver
from lab.certificates import make_ca, make_leaf
from lab.targets import CA, TargetServer, run_target, status_response
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.name_server import NameServer
from tests.fakes.waiting import until

SYSTEM = "connectors-system"
SETTINGS = Settings(ca_secret="connectors-proxy-ca", probe_interval=0.2)


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server, self.client = server, client
        self.metrics = ControllerMetrics()
        self.term = Term(client, SETTINGS, ControllerOptions(instance="pod-1", workers=2), self.metrics)

    async def get(self, resource: Resource, name: str, namespace: str | None = "a") -> dict[str, Any]:
        return await self.client.get(resource.path(namespace, name))

    async def ready(self) -> tuple[str, str]:
        obj = await self.get(CONNECTORS, "k8s")
        conditions = (obj.get("status") or {}).get("conditions") or [{"type": "Ready", "status": ""}]
        (condition,) = [each for each in conditions if each["type"] == "Ready"]
        return condition["status"], condition.get("reason", "")

    async def until_ready(self, expected: str, reason: str = "") -> None:
        reason = reason or ("AsExpected" if expected == "True" else "")
        for _ in range(6000):
            if await self.ready() == (expected, reason):
                return
            await asyncio.sleep(0.02)
        pytest.fail(f"not {expected} {reason} within 120 s: {await self.get(CONNECTORS, 'k8s')}")


@asynccontextmanager
async def running(term: Term) -> AsyncIterator[None]:
    task = asyncio.ensure_future(term.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        await server.put(
            SERVICES,
            {"metadata": {"name": "connectors-proxy", "namespace": SYSTEM}, "spec": {"clusterIPs": ["10.96.0.9"]}},
        )
        yield World(server, client)


async def put_all(world: World, server: TargetServer, *, token: str = "t") -> None:
    data = {"token": base64.b64encode(token.encode()).decode(), "ca.crt": base64.b64encode(CA.pem).decode()}
    await world.server.put(
        SECRETS,
        {"metadata": {"name": "s", "namespace": "a"}, "type": "connectors.cpaas.io/bearer-token", "data": data},
    )
    spec = {"connectorClassName": "k8s", "address": server.address, "auth": {"secretRef": {"name": "s"}}}
    await world.server.put(CONNECTORS, {"metadata": {"name": "k8s", "namespace": "a"}, "spec": spec})


async def test_a_term_reconciles_everything_and_then_rests(world) -> None:
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("True")
            service = await world.get(SERVICES, "c-k8s")
            assert service["spec"]["externalName"].startswith("connectors-proxy.connectors-system.")
            created = {CONNECTOR_CLASSES.path(None, "k8s"), CONFIG_MAPS.path(SYSTEM, "connectors-proxy-ca")}
            await until(lambda: created <= world.server.save()[1].keys())
            await until(lambda: world.server.count("POST", "events") > 0)
            await until(lambda: world.server.count("PATCH", "connectors-admission") > 0)
            class_status = CONNECTOR_CLASSES.path(None, "k8s", "status")
            await until(lambda: any(path == class_status for _, path, _ in world.server.requests))
            await until(lambda: world.term.synced and world.term.gauges.ready_counts["True"] == 1)
            for collection in ("connectors", "connectorclasses"):
                assert world.server.count("GET", collection) == 1, "one watch is enough"
            world.server.requests.clear()
            request_count = len(server.request_heads)
            await until(lambda: len(server.request_heads) > request_count + 4)
            assert [request for request in world.server.requests if request[0] != "GET"] == []
            world.term.update_gauges()
            text = generate_latest(world.metrics.registry).decode()
            assert 'connector_controller_connectors{ready="True"} 1.0' in text
            assert 'connector_controller_probes_total{result="ready"}' in text
            assert 'connector_controller_reconciles_total{outcome="ok",queue="connectors"}' in text


def gauges(world: World) -> dict[str, float]:
    """Return the gauges that only a leader knows, by name and labels."""
    lines = generate_latest(world.metrics.registry).decode().splitlines()
    prefixes = (
        "controller_connectors",
        "ready",
        "controller_queue_depth",
        "watch_age",
        "credential",
        "ca",
        "namespaces",
    )
    samples = [each.split() for each in lines if each.startswith(tuple(f"connector_{name}" for name in prefixes))]
    return {name: float(value) for name, value in samples}


def scraped(world: World) -> dict[str, float]:
    world.term.update_gauges()
    return gauges(world)


async def test_the_gauges_of_a_term_are_reset_when_it_ends(world) -> None:
    claims = base64.urlsafe_b64encode(b'{"exp": 4000000000}').decode()
    with run_target() as server:
        await put_all(world, server, token=f"header.{claims}.signature")
        async with running(world.term):
            await until(lambda: scraped(world).get('connector_credential_expiry_timestamp_seconds{connector="a/k8s"}'))
            await until(lambda: scraped(world)["connector_ca_expiry_timestamp_seconds"])
            assert 'connector_watch_age_seconds{kind="Secret"}' in gauges(world)
    assert gauges(world) == {
        "connector_ca_expiry_timestamp_seconds": 0,
        "connector_ca_secret_unusable": 0,
        "connector_namespaces_not_served": 0,
    }


async def test_a_ca_whose_secret_is_gone_shows_in_the_metrics(world) -> None:
    config_map = {"metadata": {"name": "connectors-proxy-ca", "namespace": "connectors-system"}}
    await world.server.put(CONFIG_MAPS, config_map | {"data": {"ca.crt": make_ca().pem.decode()}})
    async with running(world.term):
        await until(lambda: scraped(world).get("connector_ca_secret_unusable"))


async def test_a_scrape_looks_at_no_connector(world, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[object] = []

    def count(connector: Any, cls: Any) -> bool:
        looked_at.append(connector)
        return is_supported(connector, cls)

    monkeypatch.setattr(controller, "is_supported", count)
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await until(lambda: world.term.synced and world.term.gauges.ready_counts["True"] == 1)
            looked_at.clear()
            assert scraped(world)['connector_controller_connectors{ready="True"}'] == 1
            assert looked_at == []
            await world.server.delete(CONNECTORS, "k8s", "a")
            await until(lambda: scraped(world)['connector_controller_connectors{ready="True"}'] == 0)


async def test_connectors_of_other_products_are_not_counted(world) -> None:
    foreign = {"auth": {"types": [{"name": "basic", "secretType": "kubernetes.io/basic-auth"}]}}
    await world.server.put(CONNECTOR_CLASSES, {"metadata": {"name": "git"}, "spec": foreign})
    spec = {"connectorClassName": "git", "address": "https://git.example.com"}
    status = {"credential": {"expirationTime": "2026-01-01T00:00:00Z"}}
    await world.server.put(CONNECTORS, {"metadata": {"name": "git", "namespace": "a"}, "spec": spec, "status": status})
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await until(lambda: world.term.synced and world.term.gauges.ready_counts["True"] == 1)
            assert world.term.gauges.ready_counts == {"True": 1, "False": 0, "Unknown": 0}
            assert not [each for each in scraped(world) if "a/git" in each]


def event_reasons(world: World) -> set[str]:
    return {each["reason"] for path, each in world.server.save()[1].items() if path.startswith(EVENTS.path("a"))}


async def test_changes_of_target_secret_and_service_change_the_status(world) -> None:
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("True")
            server.respond = lambda head: status_response(401 if b"/api" in head else 200)
            await world.until_ready("False", "AuthenticationFailed")
            server.respond = lambda head: status_response(503)
            await world.until_ready("False", "ConnectionFailed")
            await world.server.delete(SECRETS, "s", "a")
            await world.until_ready("False", "SecretNotFound")
            await world.server.delete(SERVICES, "connectors-proxy", SYSTEM)
            server.respond = lambda head: status_response(200)
            await put_all(world, server)
            await world.until_ready("False", "ProxyServiceNotFound")
            text = generate_latest(world.metrics.registry).decode()
            assert 'connector_controller_probes_total{result="auth"}' in text
            assert 'connector_controller_probes_total{result="liveness"}' in text
            await until(lambda: event_reasons(world) >= {"AuthenticationFailed", "ConnectionFailed", "SecretNotFound"})


async def test_a_deleted_connector_leaves_no_service(world) -> None:
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("True")
            await world.server.delete(CONNECTORS, "k8s", "a")
            path = SERVICES.path("a", "c-k8s")
            deleted = ("DELETE", path, {"body": {"preconditions": {"uid": f"uid-{path}"}}})
            await until(lambda: deleted in world.server.requests)


async def test_without_ca_secret_and_proxy_service_there_is_less_to_watch(world) -> None:
    bare = replace(SETTINGS, ca_secret=None, proxy_service=None)
    world.term = Term(world.client, bare, ControllerOptions(instance="pod-1"), ControllerMetrics())
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("True")
            obj = await world.get(CONNECTORS, "k8s")
            assert "proxy" not in obj["status"]
            assert not any(method == "POST" and path.endswith("/services") for method, path, _ in world.server.requests)


async def put_proxy(world: World, *addresses: str) -> None:
    metadata = {"name": "connectors-proxy", "namespace": SYSTEM}
    await world.server.put(SERVICES, {"metadata": metadata, "spec": {"clusterIPs": list(addresses)}})


IN_CLUSTER = replace(SETTINGS, in_cluster=True, targets_allow=(ip_network("127.0.0.0/8"),))


async def test_the_proxys_own_address_is_not_probed(world) -> None:
    world.term = Term(world.client, IN_CLUSTER, ControllerOptions(instance="pod-1"), ControllerMetrics())
    await put_proxy(world, "192.0.2.1")
    with run_target() as server:
        await put_all(world, server)
        obj = await world.get(CONNECTORS, "k8s")
        obj["spec"]["address"] = "https://192.0.2.1:6443"
        await world.server.put(CONNECTORS, obj)
        async with running(world.term):
            await world.until_ready("False", "ConnectionFailed")
            obj = await world.get(CONNECTORS, "k8s")
            (condition,) = [each for each in obj["status"]["conditions"] if each["type"] == "LivenessReady"]
            assert "denied addresses" in condition["message"]


async def test_a_headless_proxy_service_counts(world) -> None:
    world.term = Term(world.client, IN_CLUSTER, ControllerOptions(instance="pod-1"), ControllerMetrics())
    await put_proxy(world, "None")
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("True")


async def test_a_change_of_the_proxy_service_changes_the_status_before_the_next_probe(world) -> None:
    rare = replace(SETTINGS, probe_interval=3600)
    world.term = Term(world.client, rare, ControllerOptions(instance="pod-1"), ControllerMetrics())
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("True")
            await world.server.delete(SERVICES, "connectors-proxy", SYSTEM)
            await world.until_ready("False", "ProxyServiceNotFound")
            await put_proxy(world, "10.96.0.9")
            await world.until_ready("True")


async def test_failures_are_counted_from_0(world) -> None:
    errors = partial(world.metrics.registry.get_sample_value, "connector_controller_reconciles_total")
    labels = {"outcome": "error", "queue": "connectors"}
    with run_target() as server:
        await put_all(world, server)
        world.server.faults.append(
            lambda request: refusal(500, "InternalError", "etcd") if request.path.endswith("/status") else None
        )
        async with running(world.term):
            await until(lambda: errors(labels) == 0)
            await until(lambda: errors(labels) > 0)
            world.server.faults.clear()
            await world.until_ready("True")


async def test_names_with_silent_servers_do_not_delay_other_targets_or_the_end_of_a_term(
    world, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"silent-{number}" for number in range(64)]
    name_server, server = NameServer({"good.example": ["127.0.0.1"]}), TargetServer(make_leaf(CA, ["good.example"]))
    async with name_server:
        monkeypatch.setattr(controller, "Resolver", partial(Resolver, servers=[name_server.address]))
        # The silent lookups last longer than this test.
        monkeypatch.setattr(resolver, "MAX_TRIES", 9)
        monkeypatch.setattr(controller, "Prober", partial(Prober, timeout=100))
        with closing(server):
            await put_all(world, server)
            obj = await world.client.get(CONNECTORS.path("a", "k8s"))
            for name in names:
                spec = {**obj["spec"], "address": f"https://{name}.silent:6443"}
                await world.server.put(CONNECTORS, {"metadata": {"name": name, "namespace": "a"}, "spec": spec})
            obj["spec"]["address"] = f"https://good.example:{server.port}"
            async with asyncio.timeout(120):
                async with running(world.term):
                    await until(lambda: {f"{name}.silent" for name in names} <= set(name_server.queries))
                    await world.server.put(CONNECTORS, obj)
                    await world.until_ready("True")
                    assert world.term.gauges.ready_counts["False"] == 0, "no lookup of a silent name has ended"


async def test_live_settings_are_followed_within_a_term(world) -> None:
    rare = replace(SETTINGS, probe_interval=3600, namespaces=("b",))
    world.term = Term(world.client, rare, ControllerOptions(instance="pod-1"), ControllerMetrics())
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("False", "NamespaceNotServed")
            assert not any(path.endswith("a/services") for path in world.server.watched_paths)
            world.term.follow(replace(rare, namespaces=("a", "b")))
            await world.until_ready("True")
            assert SERVICES.path("a") in world.server.watched_paths
            request_count = len(server.request_heads)
            world.term.follow(replace(rare, namespaces=("a", "b"), probe_interval=0.05))
            await until(lambda: len(server.request_heads) > request_count)
            denied = (ip_network("127.0.0.0/8"),)
            world.term.follow(replace(rare, namespaces=("a", "b"), probe_interval=0.05, targets_deny=denied))
            await world.until_ready("False", "ConnectionFailed")
            world.term.follow(replace(rare, namespaces=("b",)))
            await world.until_ready("False", "NamespaceNotServed")
            await until(lambda: SERVICES.path("a") not in world.server.watched_paths)


async def test_a_term_that_has_not_begun_follows_settings_too(world) -> None:
    world.term.follow(replace(SETTINGS, namespaces=("b",)))
    with run_target() as server:
        await put_all(world, server)
        async with running(world.term):
            await world.until_ready("False", "NamespaceNotServed")
