"""A cluster in the store: what is watched, and when the store is synced."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.credential.client_certificate import CLIENT_CERTIFICATE_SECRET
from connector_store.domain.objects.models import CA_LABEL, Target, Unusable
from connector_store.kube.client import KubeClient
from connector_store.kube.cluster_watches import ClusterWatches
from connector_store.kube.resources import CONNECTORS, SECRETS
from connector_store.store import Store
from lab.certificates import make_ca
from tests.fakes.api_server import FakeApiServer, Fault, refusal
from tests.fakes.waiting import until

KEY = ObjectKey("a", "k8s")


def connector(namespace: str = "a", secret: str = "s", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "k8s", "namespace": namespace},
        "spec": {
            "connectorClassName": "k8s",
            "address": "https://192.0.2.1:6443",
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": secret}},
            **spec,
        },
    }


def secret(name: str = "s", namespace: str = "a", kind: str = BEARER_TOKEN_SECRET, **data: str) -> dict[str, Any]:
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": name, "namespace": namespace}, "type": kind, "data": encoded}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as fake:
        yield fake


@asynccontextmanager
async def filled(server: FakeApiServer, **options: Any) -> AsyncIterator[Store]:
    store = Store()
    async with KubeClient(server.configuration) as client:
        source = ClusterWatches(client, store, system_namespace="connectors-system", **options)
        assert not store.synced
        task = asyncio.create_task(source.run())
        try:
            yield store
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_connector_becomes_usable_and_follows_its_secret(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector())
    await server.put(SECRETS, secret(token="one"))
    async with filled(server) as store:
        await until(lambda: isinstance(store.get(KEY), Target))
        await server.put(SECRETS, secret(token="two"))
        await until(lambda: b"two" in authorization(store))
        await server.delete(SECRETS, "s", "a")
        await until(lambda: isinstance(store.get(KEY), Unusable))
        await server.delete(CONNECTORS, "k8s", "a")
        await until(lambda: store.get(KEY) is None)


def authorization(store: Store) -> bytes:
    target = store.get(KEY)
    assert isinstance(target, Target)
    assert target.credential is not None
    return target.credential.authorization or b""


async def test_secrets_are_read_only_by_type_by_label_and_by_name(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector(secret="other"))
    await server.put(SECRETS, secret("other", kind="Opaque", token="t"))
    async with filled(server) as store:
        await until(lambda: "has type" in reason(store))
    queries = {(path, *selectors(query)) for _, path, query in server.requests if path.endswith("/secrets")}
    assert queries == {
        ("/api/v1/secrets", f"type={BEARER_TOKEN_SECRET}", ""),
        ("/api/v1/secrets", f"type={CLIENT_CERTIFICATE_SECRET}", ""),
        ("/api/v1/namespaces/connectors-system/secrets", "", f"{CA_LABEL}=true"),
        ("/api/v1/secrets", f"type!={BEARER_TOKEN_SECRET},type!={CLIENT_CERTIFICATE_SECRET}", ""),
        ("/api/v1/namespaces/a/secrets", "metadata.name=other", ""),
    }
    others = [query for _, _, query in server.requests if "!=" in query.get("fieldSelector", "")]
    assert [query.get("limit") for query in others if not query.get("watch")] == ["1"]


async def test_is_synced_once_the_secrets_that_connectors_name_are_read_too(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector(caCertSecretRef={"name": "ca"}))
    await server.put(SECRETS, secret(token="one"))
    await server.put(SECRETS, secret("ca", kind="Opaque", ca_crt=make_ca().pem.decode()))
    async with filled(server) as store:
        await until(lambda: store.synced)
        assert isinstance(store.get(KEY), Target)


def refused(*namespaces: str) -> Fault:
    def fault(request: web.Request) -> web.Response | None:
        hit = any(f"/namespaces/{each}/" in request.path for each in namespaces)
        return refusal(403, "Forbidden", "no") if hit else None

    return fault


async def test_a_refused_namespace_does_not_affect_others_and_is_served_when_allowed(
    server: FakeApiServer,
) -> None:
    for namespace in ("a", "b"):
        await server.put(CONNECTORS, connector(namespace))
        await server.put(SECRETS, secret(namespace=namespace, token="one"))
    server.faults.append(refused("b"))
    withheld = list[None]()
    key = ObjectKey("b", "k8s")
    async with filled(server, namespaces=["a", "b"], on_not_served_changed=lambda: withheld.append(None)) as store:
        await until(lambda: store.synced)
        assert isinstance(store.get(KEY), Target)
        for unserved, text in ((key, "bind the roles"), (ObjectKey("c", "k8s"), "add it to namespaces")):
            unusable = store.get(unserved)
            assert isinstance(unusable, Unusable)
            assert unusable.reason == "NamespaceNotServed"
            assert text in unusable.message
        server.faults.clear()
        await until(lambda: isinstance(store.get(key), Target))
    assert len(withheld) == 2


@pytest.mark.slow  # a watch that works proves it once a second, later where the machine is busy
@pytest.mark.parametrize(
    ("options", "fault", "reason", "cut"),
    [
        pytest.param({}, refused("connectors-system"), "NotWatched", True, id="of all namespaces, refused"),
        pytest.param({}, lambda request: refusal(500, "", "away"), "NotWatched", False, id="the server is away"),
        pytest.param({"namespaces": ["a", "b"]}, refused("a"), "NamespaceNotServed", True, id="of one namespace"),
    ],
)
async def test_a_broken_watch_stops_serving_after_the_bound(
    server: FakeApiServer, options: dict[str, Any], fault: Fault, reason: str, cut: bool
) -> None:
    await server.put(CONNECTORS, connector())
    await server.put(SECRETS, secret(token="one"))
    async with filled(server, stale_after=3.0, watch_timeout=1, **options) as store:
        await until(lambda: store.synced and isinstance(store.get(KEY), Target))
        notifications: list[frozenset[ObjectKey]] = []
        store.subscribe(notifications.append)
        server.faults.append(fault)
        server.drop_streams()
        # The watch may be old before it was refused often enough.
        await until(lambda: why_unusable(store) == reason and (not cut or frozenset({KEY}) in notifications))
        assert (frozenset({KEY}) in notifications) is cut
        server.faults.clear()
        await until(lambda: isinstance(store.get(KEY), Target))


async def test_watch_ages_are_those_of_each_kinds_oldest_watch(server: FakeApiServer) -> None:
    store = Store()
    async with KubeClient(server.configuration) as client:
        source = ClusterWatches(client, store, system_namespace="connectors-system", namespaces=["a", "b"])
        server.faults.append(refused("b"))
        task = asyncio.create_task(source.run())
        await until(lambda: store.synced)
        ages = source.watch_ages()
        assert set(ages) == {"ClusterRole", "Connector", "ConnectorClass", "Secret"}
        assert all(age < 20 for age in ages.values())
        task.cancel()


async def test_a_controller_watches_all_connectors_and_the_secrets_of_the_namespaces_only(
    server: FakeApiServer,
) -> None:
    for namespace in ("a", "b"):
        await server.put(CONNECTORS, connector(namespace))
    async with filled(server, namespaces=["a"], all_connectors=True) as store:
        await until(lambda: store.synced)
        assert {each.key.namespace for each in store.connectors()} == {"a", "b"}
    secrets = {path for _, path, _ in server.requests if path.endswith("/secrets")}
    assert secrets == {"/api/v1/namespaces/a/secrets", "/api/v1/namespaces/connectors-system/secrets"}


def why_unusable(store: Store) -> str:
    resolved = store.get(KEY)
    return resolved.reason if isinstance(resolved, Unusable) else ""


def selectors(query: dict[str, Any]) -> tuple[str, str]:
    return query.get("fieldSelector", ""), query.get("labelSelector", "")


def reason(store: Store) -> str:
    resolved = store.get(KEY)
    return resolved.message if isinstance(resolved, Unusable) else ""


async def test_a_ca_of_the_system_namespace_serves_all(server: FakeApiServer) -> None:
    pem = make_ca().pem.decode()
    labelled = secret("ca", "connectors-system", "Opaque", ca_crt=pem)
    labelled["metadata"]["labels"] = {CA_LABEL: "true"}
    await server.put(SECRETS, labelled)
    async with filled(server) as store:
        await until(lambda: store.shared_ca is not None)


async def test_only_the_named_namespaces_are_watched(server: FakeApiServer) -> None:
    for namespace in ("a", "b", "c"):
        await server.put(CONNECTORS, connector(namespace))
    async with filled(server, namespaces=["a", "b", "a"]) as store:
        await until(lambda: len(list(store.connectors())) == 2)
    assert {path for _, path, _ in server.requests if path.endswith("/connectors")} == {
        "/apis/connectors.alauda.io/v1alpha1/namespaces/a/connectors",
        "/apis/connectors.alauda.io/v1alpha1/namespaces/b/connectors",
    }


async def test_is_not_synced_while_one_kind_is_missing(server: FakeApiServer) -> None:
    server.unserved.add("connectorclasses")
    await server.put(CONNECTORS, connector())
    await server.put(SECRETS, secret(token="one"))
    async with filled(server) as store:
        await until(lambda: isinstance(store.get(KEY), Target))
        assert not store.synced
        server.unserved.clear()
        await until(lambda: store.synced)
