"""Access of refused pods by policies and requests, with a fake API server."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest
from grpc import StatusCode

from connector_csi.failure import Failure
from connector_csi.pod_access import PodAccess
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Identity, Refused
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.domain.objects.models import Address, Connector, InvalidConnector
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import ACCESS_POLICIES, ACCESS_REQUESTS, NAMESPACES
from tests.fakes.api_server import FakeApiServer, refusal

KEY = ObjectKey("team-a", "prod")
POD = Pod(namespace="ci", name="build-1", uid="pod-1", service_account="builder")
CALLER = Granted(identity=Identity(user="system:serviceaccount:ci:builder"), has_right=False)
REFUSED = Refused(check="use", reason="no", has_opinion=False, authentication=CALLER)
MAY_ASK = replace(REFUSED, may_request=True)
DENIED = Failure(code=StatusCode.PERMISSION_DENIED, message="grant it")
CONNECTOR = Connector(key=KEY, class_name="k8s", address=Address(host="target", port=6443), labels={"stage": "dev"})


class World:
    """`connector` is what exists at KEY. `loaded` are the keys that were read."""

    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server = server
        self.connector: Connector | InvalidConnector | None = CONNECTOR
        self.loaded: list[ObjectKey] = []
        self.access = PodAccess(client, "node-1", self.load, lambda key: self.connector)

    async def load(self, keys: Iterable[ObjectKey]) -> None:
        self.loaded += keys

    async def check(self, refused: Refused = REFUSED, *, is_new: bool = True) -> Failure | None:
        return await self.access.check(POD, KEY, refused, DENIED, is_new=is_new)

    async def put_policy(self, namespace_selector: dict[str, Any], **connector: Any) -> None:
        accounts = [{"names": ["builder"], "namespaceSelector": namespace_selector}]
        spec = {"connector": connector, "defaultPermission": {"bindingTemplate": {"serviceAccounts": accounts}}}
        await self.server.put(ACCESS_POLICIES, {"metadata": {"name": "p", "namespace": "team-a"}, "spec": spec})

    async def set_status(self, reason: str, status: str) -> None:
        """Give the request a time of creation, as a real API server does, and a condition Ready."""
        [raw] = [raw for path, raw in self.server._objects.items() if "accessrequests" in path]
        metadata = raw["metadata"] | {"creationTimestamp": "2026-01-02T00:00:00Z"}
        conditions = [{"type": "Ready", "status": status, "reason": reason}]
        await self.server.put(ACCESS_REQUESTS, {**raw, "metadata": metadata, "status": {"conditions": conditions}})

    @property
    def writes(self) -> list[str]:
        return [path for method, path, _ in self.server.requests if method == "POST" and "accessrequests" in path]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        yield World(server, client)


@pytest.mark.parametrize(
    "refused",
    [replace(MAY_ASK, has_opinion=True), replace(REFUSED, authentication=None)],
    ids=["an authorizer denies it", "an unknown caller"],
)
async def test_a_denial_of_the_api_server_is_final(world: World, refused: Refused) -> None:
    assert await world.check(refused) == DENIED
    assert world.server.requests == []


@pytest.mark.parametrize(
    ("selector", "connector", "result"),
    [
        pytest.param({}, {}, None, id="every namespace"),
        pytest.param({"names": ["ci"]}, {"matchLabels": {"stage": "dev"}}, None, id="the namespace and the Connector"),
        pytest.param({"matchLabels": {"team": "a"}}, {}, None, id="a label of the namespace"),
        pytest.param({"matchLabels": {"team": "b"}}, {}, DENIED, id="another label"),
        pytest.param({"names": ["other"]}, {}, DENIED, id="another namespace"),
        pytest.param({}, {"names": ["other"]}, DENIED, id="another Connector"),
    ],
)
async def test_a_policy_lets_accounts_in(
    world: World, selector: dict[str, Any], connector: dict[str, Any], result: Failure | None
) -> None:
    await world.server.put(NAMESPACES, {"metadata": {"name": "ci", "labels": {"team": "a"}}})
    await world.put_policy(selector, **connector)
    assert await world.check(MAY_ASK, is_new=False) == result
    assert world.writes == []


@pytest.mark.parametrize(
    "connector", [None, InvalidConnector(key=KEY, class_name="k8s", reason="Invalid", message="wrong")]
)
async def test_a_policy_does_not_tell_whether_the_connector_exists(
    world: World, connector: InvalidConnector | None
) -> None:
    world.connector = connector
    await world.put_policy({})
    assert await world.check() == DENIED


async def test_a_label_lets_in_no_caller_without_a_namespace(world: World) -> None:
    await world.put_policy({"matchLabels": {"team": "a"}})
    caller = replace(CALLER, identity=Identity(user="jane"))
    assert await world.check(replace(REFUSED, authentication=caller)) == DENIED


async def test_without_policies_for_accounts_no_connector_is_read(world: World) -> None:
    await world.server.put(
        ACCESS_POLICIES, {"metadata": {"name": "p", "namespace": "team-a"}, "spec": {"approval": {}}}
    )
    assert await world.check() == DENIED
    assert world.loaded == []


async def test_a_pod_that_may_ask_waits_for_one_request(world: World) -> None:
    waiting = await world.check(MAY_ASK)
    assert isinstance(waiting, Failure)
    assert "connectorctl approve team-a/build-1-" in waiting.message
    await world.set_status("Pending", "False")
    assert await world.check(MAY_ASK) == waiting
    assert len(world.writes) == 1


async def test_a_pod_that_may_not_ask_and_a_volume_in_use_ask_for_nothing(world: World) -> None:
    assert await world.check(REFUSED) == DENIED
    assert await world.check(MAY_ASK, is_new=False) == DENIED
    assert world.writes == []


async def test_the_decision_is_read_from_the_request(world: World) -> None:
    await world.check(MAY_ASK)
    await world.set_status("Approved", "True")
    assert await world.check(REFUSED, is_new=False) is None
    reviews = [path for _, path, _ in world.server.requests if "selfsubjectreviews" in path]
    assert len(reviews) == 1


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        pytest.param("GET", 404, StatusCode.PERMISSION_DENIED, id="the API server has no such kind"),
        pytest.param("GET", 403, StatusCode.UNAVAILABLE, id="the driver may not read"),
        pytest.param("POST", 403, StatusCode.UNAVAILABLE, id="a quota"),
        pytest.param("POST", 409, StatusCode.PERMISSION_DENIED, id="another call created it"),
        pytest.param("POST", 500, StatusCode.UNAVAILABLE, id="an error"),
    ],
)
async def test_an_error_of_the_api_server_is_not_an_answer(
    world: World, method: str, status: int, code: StatusCode
) -> None:
    await world.check(MAY_ASK, is_new=False)
    world.server.faults.append(
        lambda request: refusal(status, "x", "quota exceeded") if request.method == method else None
    )
    failure = await world.check(MAY_ASK)
    assert isinstance(failure, Failure)
    assert failure.code is code
    assert failure.is_final is (code is StatusCode.PERMISSION_DENIED)
