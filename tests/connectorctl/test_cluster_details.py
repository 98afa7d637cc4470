"""Details of a Connector from a fake API server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import (
    ACCESS_LOCKS,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONNECTORS,
    EVENTS,
    ROLE_BINDINGS,
    ROLES,
)
from connector_store.kube.server_clock import ServerClock
from connectorctl.cluster_details import MAX_EVENTS, read_details
from connectorctl.description import ConnectorDetails
from tests.fakes.api_server import FakeApiServer, refusal

KEY = ObjectKey("a", "k8s")
CONNECTOR = {
    "metadata": {"name": "k8s", "namespace": "a"},
    "spec": {"connectorClassName": "k8s", "address": "https://192.0.2.1:6443"},
    "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "SecretNotFound", "message": "no"}]},
}
RULES = [{"apiGroups": ["connectors.alauda.io"], "resources": ["connectors/proxy"], "verbs": ["use"]}]


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as fake:
        await fake.put(CONNECTORS, CONNECTOR)
        yield fake


async def read(server: FakeApiServer, key: ObjectKey = KEY) -> ConnectorDetails:
    async with KubeClient(server.configuration) as client:
        return await read_details(client, key, Settings())


def role(kind: str, name: str, **metadata: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, **metadata}, "rules": RULES}


def binding(kind: str, role_name: str, user: str, **metadata: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"b-{user}", **metadata},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role_name},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }


async def test_conditions_and_subjects_are_read(server: FakeApiServer) -> None:
    await server.put(CLUSTER_ROLES, role("ClusterRole", "wide"))
    await server.put(ROLES, role("Role", "narrow", namespace="a"))
    await server.put(ROLE_BINDINGS, binding("Role", "narrow", "jane", namespace="a"))
    await server.put(CLUSTER_ROLE_BINDINGS, binding("ClusterRole", "wide", "joe"))
    details = await read(server)
    assert list(details.callers) == ["User jane", "User joe"]
    assert [condition.reason for condition in details.conditions] == ["SecretNotFound"]
    assert details.kubeconfig_command.startswith("connectorctl kubeconfig a/k8s --source kubernetes ")


async def test_the_newest_events_come_first(server: FakeApiServer) -> None:
    for number in range(MAX_EVENTS + 2):
        event = {
            "metadata": {"name": f"e{number}", "namespace": "a", "creationTimestamp": "2020-01-01T00:00:00Z"},
            "regarding": {"kind": "Connector", "name": "k8s"},
            "eventTime": f"2026-01-01T00:00:{number:02}.123456Z",
            "type": "Normal",
            "reason": f"r{number}",
            "note": "text",
        }
        await server.put(
            EVENTS, event | ({"series": {"lastObservedTime": "2027-01-01T00:00:00.1Z"}} if number == 3 else {})
        )
    events = (await read(server)).events
    assert [event["reason"] for event in events[:2]] == ["r3", f"r{MAX_EVENTS + 1}"]
    assert events[0] == {"time": "2027-01-01T00:00:00Z", "type": "Normal", "reason": "r3", "message": "text"}
    assert len(events) == MAX_EVENTS


def fault_on(plural: str, status: int) -> Any:
    def respond(request: web.Request) -> web.StreamResponse | None:
        return refusal(status, "Forbidden", f"no {plural}") if request.path.endswith(f"/{plural}") else None

    return respond


async def test_without_the_rights_the_callers_say_so_and_events_are_left_out(server: FakeApiServer) -> None:
    server.faults += [fault_on("clusterrolebindings", 403), fault_on("events", 403)]
    details = await read(server)
    assert list(details.callers) == ["cannot be listed: no clusterrolebindings (HTTP 403)"]
    assert list(details.events) == []


@pytest.mark.parametrize("plural", ["rolebindings", "events"])
async def test_another_failure_is_an_error(server: FakeApiServer, plural: str) -> None:
    server.faults.append(fault_on(plural, 500))
    with pytest.raises(ApiError, match=f"no {plural}"):
        await read(server)


async def test_a_connector_that_does_not_exist_is_an_error(server: FakeApiServer) -> None:
    with pytest.raises(ApiError):
        await read(server, ObjectKey("a", "absent"))


async def test_the_clock_of_the_api_server_ends_locks(server: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    await server.put(
        ACCESS_LOCKS,
        {"metadata": {"name": "l", "namespace": "a"}, "spec": {"until": "2020-01-01T00:00:00Z", "reason": "x"}},
    )
    monkeypatch.setattr(ServerClock, "now", lambda _: 1e9)
    assert [lock.key.name for lock in (await read(server)).inventory.store.access.current_locks()] == ["l"]
