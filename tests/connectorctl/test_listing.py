"""A cluster's objects, listed once."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.names import CA_LABEL, ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.objects.models import Target, Unusable
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS, SECRETS
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


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as fake:
        yield fake


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


async def test_a_refusal_is_not_an_empty_list(server: FakeApiServer) -> None:
    await server.put(CONNECTORS, connector())

    def forbidden(request: web.Request) -> web.Response | None:
        return refusal(403, "Forbidden", "no") if request.path.endswith("/secrets/s") else None

    server.faults.append(forbidden)
    with pytest.raises(ApiError) as refused:
        await list_store(server)
    assert refused.value.status == 403
