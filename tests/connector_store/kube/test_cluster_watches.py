"""A cluster in the store: what is watched, and when the store is synced."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.names import CA_LABEL, ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.credential.client_certificate import CLIENT_CERTIFICATE_SECRET
from connector_store.domain.objects.models import Target, Unusable
from connector_store.kube.client import KubeClient
from connector_store.kube.cluster_watches import ClusterWatches
from connector_store.kube.resources import (
    ACCESS_APPROVALS,
    ACCESS_LOCKS,
    ACCESS_POLICIES,
    ACCESS_REQUESTS,
    CONNECTORS,
    NAMESPACES,
    SECRETS,
    Resource,
)
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


@pytest.mark.parametrize("count", [1, 10])
async def test_each_namespace_costs_three_watches(server: FakeApiServer, count: int) -> None:
    """docs/install.md has the cost of the setting `namespaces`, which follows from this number."""
    namespaces = [f"team-{number}" for number in range(count)]
    async with filled(server, namespaces=namespaces) as store:
        await until(lambda: store.synced)
    watches = {(path, query.get("fieldSelector")) for _, path, query in server.requests if query.get("watch") == "true"}
    assert len(watches) == 3 * count + 3, "and one each of classes, ClusterRoles and shared CAs"


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


def authorization(store: Store, key: ObjectKey = KEY) -> bytes:
    target = store.get(key)
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


@pytest.mark.parametrize("access_objects", [False, True], ids=["without access objects", "with access objects"])
async def test_a_refused_namespace_does_not_affect_others_and_is_served_when_allowed(
    server: FakeApiServer, access_objects: bool
) -> None:
    for namespace in ("a", "b"):
        await server.put(CONNECTORS, connector(namespace))
        await server.put(SECRETS, secret(namespace=namespace, token="one"))
    server.faults.append(refused("b"))
    withheld = list[None]()
    key = ObjectKey("b", "k8s")
    async with filled(
        server,
        namespaces=["a", "b"],
        access_objects=access_objects,
        on_not_served_changed=lambda: withheld.append(None),
    ) as store:
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


@asynccontextmanager
async def serving(server: FakeApiServer, **options: Any) -> AsyncIterator[tuple[ClusterWatches, Store]]:
    store = Store()
    async with KubeClient(server.configuration) as client:
        watches = ClusterWatches(client, store, system_namespace="connectors-system", **options)
        task = asyncio.create_task(watches.run())
        try:
            await until(lambda: store.synced and watches.synced.is_set())
            yield watches, store
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def teams(server: FakeApiServer) -> list[ObjectKey]:
    """Return the Connectors of three namespaces. Each has a token, and a CA that no watch by type covers."""
    namespaces = ["a", "b", "c"]
    pem = make_ca().pem.decode()
    for namespace in namespaces:
        await server.put(CONNECTORS, connector(namespace, caCertSecretRef={"name": "ca"}))
        await server.put(SECRETS, secret(namespace=namespace, token="one"))
        await server.put(SECRETS, secret("ca", namespace, "Opaque", ca_crt=pem))
    return [ObjectKey(namespace, "k8s") for namespace in namespaces]


def usable(store: Store, keys: list[ObjectKey]) -> list[str]:
    return [key.namespace for key in keys if isinstance(store.get(key), Target)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(["a"], ["a", "b"], id="one more namespace"),
        pytest.param(["a", "b"], ["a"], id="one less"),
        pytest.param(["a"], ["b", "c"], id="others"),
        pytest.param([], ["a"], id="the first"),
        pytest.param(["a"], [], id="none"),
        pytest.param(None, ["a", "b"], id="some instead of all"),
        pytest.param(["a"], None, id="all instead of some"),
    ],
)
async def test_namespaces_are_followed_while_it_runs(
    server: FakeApiServer, teams: list[ObjectKey], before: list[str] | None, after: list[str] | None
) -> None:
    everything = [key.namespace for key in teams]
    kept = set(everything if before is None else before) & set(everything if after is None else after)
    async with serving(server, namespaces=before) as (watches, store):
        await until(lambda: usable(store, teams) == (everything if before is None else before))
        changes: list[str] = []
        store.subscribe(
            lambda keys: changes.extend(
                key.namespace for key in keys if key.namespace in kept and not isinstance(store.get(key), Target)
            )
        )
        watches.serve(after)
        await until(lambda: usable(store, teams) == (everything if after is None else after))
        assert store.synced, "callers of the other namespaces are not refused meanwhile"
        assert not changes, "a namespace that stays is served all the time"
        expected_paths = (
            {"/api/v1/secrets"} if after is None else {f"/api/v1/namespaces/{each}/secrets" for each in after}
        )
        await until(lambda: secret_watches(server) == expected_paths)
        for namespace in usable(store, teams):
            key = ObjectKey(namespace, "k8s")
            await server.put(SECRETS, secret(namespace=namespace, token="two"))
            await until(partial(has_token, store, key, b"two"))
            await server.put(SECRETS, secret("ca", namespace, "Opaque", ca_crt="none"))
            await until(partial(is_unusable, store, key))


def has_token(store: Store, key: ObjectKey, token: bytes) -> bool:
    return token in authorization(store, key)


def is_unusable(store: Store, key: ObjectKey) -> bool:
    return isinstance(store.get(key), Unusable)


def secret_watches(server: FakeApiServer) -> set[str]:
    return {path for path in server.watched_paths if path.endswith("/secrets") and "connectors-system" not in path}


async def test_a_namespace_that_is_left_out_is_not_served_any_more_at_once(
    server: FakeApiServer, teams: list[ObjectKey]
) -> None:
    server.faults.append(lambda request: refusal(500, "", "away") if "/namespaces/c/" in request.path else None)
    async with serving(server, namespaces=["a", "b"]) as (watches, store):
        notifications: list[frozenset[ObjectKey]] = []
        store.subscribe(notifications.append)
        watches.serve(["a", "c"])
        await until(lambda: usable(store, teams) == ["a"])
        assert any(teams[1] in keys for keys in notifications), "its live connections are closed"
        server.faults[:] = [refused("c")]
        await until(lambda: "bind the roles" in reason(store, teams[2]))
        server.faults.clear()
        await until(lambda: usable(store, teams) == ["a", "c"])


async def test_a_request_that_is_withdrawn_leaves_no_watch(server: FakeApiServer, teams: list[ObjectKey]) -> None:
    connectors = "/apis/connectors.alauda.io/v1alpha1/namespaces/b/connectors"
    server.faults.append(lambda request: refusal(500, "", "away") if "/b/secrets" in request.path else None)
    async with serving(server, namespaces=["a"]) as (watches, store):
        watches.serve(["a", "b"])
        await until(lambda: connectors in server.watched_paths)
        watches.serve(["a"])
        await until(lambda: connectors not in server.watched_paths)
        assert usable(store, teams) == ["a"]


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


def reason(store: Store, key: ObjectKey = KEY) -> str:
    resolved = store.get(key)
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


ACCESS_RESOURCES = (ACCESS_POLICIES, ACCESS_REQUESTS, ACCESS_APPROVALS, ACCESS_LOCKS)


@pytest.mark.parametrize("namespaces", [None, ["a"]], ids=["all namespaces", "some namespaces"])
async def test_policies_requests_approvals_and_locks_are_read_before_the_store_is_synced(
    server: FakeApiServer, namespaces: list[str] | None
) -> None:
    lock = {"metadata": {"name": "l", "namespace": "connectors-system", "uid": "l"}, "spec": {"reason": "stolen"}}
    await server.put(CONNECTORS, connector())
    await server.put(SECRETS, secret(token="one"))
    await server.put(ACCESS_LOCKS, lock)
    await server.put(NAMESPACES, {"metadata": {"name": "ci", "labels": {"team": "a"}}})
    async with filled(server, access_objects=True, namespaces=namespaces) as store:
        store.access.system_namespace = "connectors-system"
        await until(lambda: store.synced)
        assert store.object_counts["AccessLock"] == 1
        assert store.access.find_lock(Identity(user="jane"), KEY) is not None
    watched = {path.rsplit("/", 1)[-1] for _, path, _ in server.requests}
    assert {each.plural for each in (*ACCESS_RESOURCES, NAMESPACES)} <= watched


@pytest.mark.parametrize("resource", ACCESS_RESOURCES, ids=lambda resource: resource.plural)
async def test_no_caller_is_let_in_while_access_objects_cannot_be_read(
    server: FakeApiServer, resource: Resource
) -> None:
    server.faults.append(
        lambda request: refusal(403, "", "no") if request.path.endswith(f"/{resource.plural}") else None
    )
    async with filled(server, access_objects=True) as store:
        await until(lambda: len(store.unsynced_sources) <= 3)
        await until(lambda: server.count("GET", resource.plural) >= 4)
        assert not store.synced


async def test_without_the_kinds_there_are_no_access_objects(server: FakeApiServer) -> None:
    server.unserved |= {each.plural for each in ACCESS_RESOURCES}
    discovery = {"kind": "APIResourceList", "resources": [{"name": "connectors"}, {"name": "connectorclasses"}]}
    server.faults.append(
        lambda request: web.json_response(discovery) if request.path == "/apis/connectors.alauda.io/v1alpha1" else None
    )
    async with filled(server, access_objects=True) as store:
        await until(lambda: store.synced)
        assert not store.access.has_objects
