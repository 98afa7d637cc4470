"""A cluster's objects, listed once."""

import base64
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.names import CA_LABEL, ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.objects.models import Target, Unusable
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import ACCESS_LOCKS, CONNECTORS, SECRETS
from connector_store.store import Store
from connectorctl.listing import fill_store
from lab.certificates import make_ca
from tests.fakes.api_server import FakeApiServer, refusal

SYSTEM = "connectors-system"
CA = make_ca()


def connector(namespace: str = "a", **spec: Any) -> dict[str, Any]:
    auth = {"name": "bearerTokenAuth", "secretRef": {"name": "s"}}
    whole = {"connectorClassName": "k8s", "address": "https://192.0.2.1:6443", "auth": auth, **spec}
    return {"metadata": {"name": "k8s", "namespace": namespace}, "spec": whole}


def secret(name: str, namespace: str, kind: str, labels: dict[str, str] | None = None, **data: bytes) -> dict[str, Any]:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, "type": kind, "data": encoded}


async def list_store(server: FakeApiServer, namespace: str | None = None) -> Store:
    store = Store()
    async with KubeClient(server.configuration) as client:
        await fill_store(store, client, system_namespace=SYSTEM, namespace=namespace)
    return store


async def test_a_connector_is_joined_with_its_secret_and_the_shared_ca(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector())
    await server.put(SECRETS, secret("s", "a", BEARER_TOKEN_SECRET, token=b"t"))
    await server.put(SECRETS, secret("ca", SYSTEM, "Opaque", {CA_LABEL: "true"}, ca_crt=CA.pem))
    target = (await list_store(server)).get(ObjectKey("a", "k8s"))
    assert isinstance(target, Target)
    assert target.ca is not None
    assert CA.pem.strip() in target.ca


async def test_a_secret_of_another_type_is_read_by_name(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector(caCertSecretRef={"name": "ca"}))
    await server.put(SECRETS, secret("s", "a", BEARER_TOKEN_SECRET, token=b"t"))
    await server.put(SECRETS, secret("ca", "a", "Opaque", ca_crt=CA.pem))
    assert isinstance((await list_store(server)).get(ObjectKey("a", "k8s")), Target)


async def test_a_missing_secret_is_reported(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector())
    target = (await list_store(server)).get(ObjectKey("a", "k8s"))
    assert isinstance(target, Unusable)
    assert target.reason == "SecretNotFound"


async def test_only_the_namespace_is_listed(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector("a"))
    await server.put(CONNECTORS, connector("b"))
    assert [connector.key.namespace for connector in (await list_store(server, "b")).connectors()] == ["b"]


async def put_lock(server: FakeApiServer, namespace: str) -> None:
    await server.put(ACCESS_LOCKS, {"metadata": {"name": "l", "namespace": namespace}, "spec": {"reason": "x"}})


def fail_locks(server: FakeApiServer, status: int, namespace: str) -> None:
    path = ACCESS_LOCKS.path(namespace)
    server.faults.append(lambda request: refusal(status, "Reason", "no") if request.path == path else None)


def lock_namespaces(store: Store) -> list[str]:
    return [lock.key.namespace for lock in store.access.current_locks()]


@pytest.mark.parametrize(
    ("namespace", "expected"), [(None, ["a", "b", SYSTEM]), ("b", ["b", SYSTEM]), (SYSTEM, [SYSTEM])]
)
async def test_the_locks_of_a_namespace_and_of_the_system_namespace_are_listed(
    server: FakeApiServer, namespace: str | None, expected: list[str]
) -> None:
    for each in ("a", "b", SYSTEM):
        await put_lock(server, each)
    store = await list_store(server, namespace)
    assert lock_namespaces(store) == expected
    assert store.access.system_namespace == SYSTEM


@pytest.mark.parametrize("status", [403, 404])
async def test_locks_that_the_user_cannot_list_are_left_out(server: FakeApiServer, status: int) -> None:
    for each in ("a", SYSTEM):
        await put_lock(server, each)
    fail_locks(server, status, SYSTEM)
    assert lock_namespaces(await list_store(server, "a")) == ["a"]
    fail_locks(server, status, "a")
    assert lock_namespaces(await list_store(server, "a")) == []


async def test_another_failure_of_locks_is_an_error(server: FakeApiServer) -> None:
    fail_locks(server, 500, "a")
    with pytest.raises(ApiError):
        await list_store(server, "a")


async def test_a_refusal_is_not_an_empty_list(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector())

    def forbidden(request: web.Request) -> web.Response | None:
        return refusal(403, "Forbidden", "no") if request.path.endswith("/secrets/s") else None

    server.faults.append(forbidden)
    with pytest.raises(ApiError) as refused:
        await list_store(server)
    assert refused.value.status == 403
