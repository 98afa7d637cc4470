"""Reads and writes of access objects, and the choice of the policy to decide by, with a fake API server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import (
    ACCESS_APPROVALS,
    ACCESS_LOCKS,
    ACCESS_POLICIES,
    ACCESS_REQUESTS,
    CONNECTORS,
)
from connectorctl.access_cluster import Author, create, decide, delete, get, get_author, list_keys, list_objects
from connectorctl.complete import complete_access_objects
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from tests.connectorctl.fake_access_cluster import MANIFEST, FakeAccessCluster
from tests.fakes.api_server import refusal

KEY = ObjectKey("a", "prod-1")
NO_POLICY = (
    'no AccessPolicy in namespace "a" lets you decide on this request; ask an administrator for the verb approve on one'
)


@pytest.fixture
async def client(cluster: FakeAccessCluster) -> AsyncIterator[KubeClient]:
    """Client of `joe`, with a request of `jane` in the cluster."""
    await cluster.put_request()
    cluster.user = "joe"
    async with KubeClient(cluster.server.configuration) as client:
        yield client


async def put_connector(cluster: FakeAccessCluster, **labels: str) -> None:
    metadata = {"name": "prod", "namespace": "a", "labels": labels}
    await cluster.server.put(CONNECTORS, {**MANIFEST, "kind": "Connector", "metadata": metadata, "spec": {}})


async def approve(client: KubeClient, policy_name: str | None = None) -> str:
    """Approve the request. Return the name of the policy."""
    _, approval = await decide(client, KEY, "Approved", policy_name=policy_name, comment=None)
    return str(approval["spec"]["policyRef"]["name"])


async def test_the_author_is_whom_the_api_server_authenticates(cluster: FakeAccessCluster, client: KubeClient) -> None:
    assert await get_author(client) == Author("joe", frozenset({"developers"}))
    cluster.groups = []
    assert await get_author(client) == Author("joe", frozenset())


async def test_objects_are_listed_page_by_page_in_the_order_of_their_creation(
    cluster: FakeAccessCluster, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector_store.kube.client.PAGE_SIZE", 2)
    for number, second in enumerate((3, 1, 2)):
        metadata = {"name": f"l-{number}", "namespace": "b", "creationTimestamp": f"2026-01-31T18:00:0{second}Z"}
        await cluster.server.put(ACCESS_LOCKS, {**MANIFEST, "metadata": metadata, "spec": {"reason": "x"}})
    listed = await list_objects(client, ACCESS_LOCKS, "b")
    assert [raw["metadata"]["name"] for raw in listed] == ["l-1", "l-2", "l-0"]
    assert await list_objects(client, ACCESS_LOCKS, None) == listed
    assert await list_objects(client, ACCESS_LOCKS, "a") == []


async def test_every_operation_names_a_missing_definition(cluster: FakeAccessCluster, client: KubeClient) -> None:
    cluster.server.unserved |= {"accesslocks", "x"}
    manifest = {"metadata": {"namespace": "a", "name": "x"}}
    for operation in (
        create(client, ACCESS_LOCKS, manifest),
        get(client, ACCESS_LOCKS, ObjectKey("a", "x")),
        delete(client, ACCESS_LOCKS, ObjectKey("a", "x")),
        list_objects(client, ACCESS_LOCKS, "a"),
    ):
        with pytest.raises(ApiError, match="CustomResourceDefinition accesslocks"):
            await operation


async def test_other_errors_are_those_of_the_api_server(cluster: FakeAccessCluster, client: KubeClient) -> None:
    cluster.server.faults.append(lambda _: refusal(403, "Forbidden", "no"))
    manifest = {"metadata": {"namespace": "a", "name": "x"}}
    for operation in (
        create(client, ACCESS_LOCKS, manifest),
        get(client, ACCESS_LOCKS, ObjectKey("a", "x")),
        delete(client, ACCESS_LOCKS, ObjectKey("a", "x")),
        list_objects(client, ACCESS_LOCKS, "a"),
    ):
        with pytest.raises(ApiError) as raised:
            await operation
        assert (raised.value.status, raised.value.message) == (403, "no")


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"connector": {"names": ["staging"]}}, id="for another Connector"),
        pytest.param({"approval": None}, id="without approvals"),
        pytest.param({"approval": {"required": 99}}, id="with a problem"),
        pytest.param({"connector": {"matchLabels": {"stage": "dev"}}}, id="for other labels"),
    ],
)
async def test_a_policy_that_cannot_judge_the_request_is_not_chosen(
    cluster: FakeAccessCluster, client: KubeClient, spec: dict[str, Any]
) -> None:
    await put_connector(cluster, stage="prod")
    await cluster.put_policy("useless", **spec)
    with pytest.raises(ParseError, match='no AccessPolicy in namespace "a" lets you decide on this request'):
        await approve(client)
    await cluster.put_policy("useful")
    assert await approve(client) == "useful"
    # One policy is left, so the API server is not asked about rights: it checks them when it creates the approval.
    assert not any(path.endswith("/selfsubjectaccessreviews") for _, path, _ in cluster.server.requests)


async def test_policies_that_apply_by_labels_need_the_labels(cluster: FakeAccessCluster, client: KubeClient) -> None:
    await put_connector(cluster, stage="prod")
    await cluster.put_policy("labelled", connector={"matchLabels": {"stage": "prod"}})
    await cluster.put_policy("other", connector={"matchLabels": {"stage": "dev"}})
    assert await approve(client) == "labelled"


async def test_without_the_right_to_read_the_connector_rights_decide_between_labels(
    cluster: FakeAccessCluster, client: KubeClient
) -> None:
    cluster.server.faults.append(
        lambda request: refusal(403, "Forbidden", "no") if "/connectors/" in request.path else None
    )
    await cluster.put_policy("labelled", connector={"matchLabels": {"stage": "prod"}})
    await cluster.put_policy("other", connector={"matchLabels": {"stage": "dev"}})
    await cluster.put_policy("by-name", connector={"names": ["staging"]})
    cluster.approvable = {"other", "by-name"}
    assert await approve(client) == "other"


async def test_of_several_policies_the_one_that_the_author_may_approve_for_is_chosen(
    cluster: FakeAccessCluster, client: KubeClient
) -> None:
    for name in ("first", "second"):
        await cluster.put_policy(name)
    cluster.approvable = {"second"}
    assert await approve(client) == "second"


@pytest.mark.parametrize(
    ("policies", "approvable", "message"),
    [
        ([], [], NO_POLICY),
        (["first", "second"], [], NO_POLICY),
        (
            ["first", "second"],
            ["first", "second"],
            "several AccessPolicies apply; name one with --policy: first, second",
        ),
    ],
    ids=["no policy", "no right", "two rights"],
)
async def test_without_one_policy_nothing_is_approved(
    cluster: FakeAccessCluster, client: KubeClient, policies: list[str], approvable: list[str], message: str
) -> None:
    for name in policies:
        await cluster.put_policy(name)
    cluster.approvable = set(approvable)
    with pytest.raises(ParseError) as raised:
        await approve(client)
    assert raised.value.reason == message
    assert cluster.objects(ACCESS_APPROVALS) == []


async def test_a_policy_can_be_named(cluster: FakeAccessCluster, client: KubeClient) -> None:
    for name in ("first", "second"):
        await cluster.put_policy(name)
    assert await approve(client, "second") == "second"
    with pytest.raises(ApiError, match='"third" not found'):
        await approve(client, "third")
    listed = [
        path for method, path, _ in cluster.server.requests if (method, path) == ("GET", ACCESS_POLICIES.path("a"))
    ]
    assert listed == []


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        pytest.param("jane", {"kind": "User", "name": "joe"}, id="the requester"),
        pytest.param("joe", {"kind": "User", "name": "joe"}, id="the subject"),
        pytest.param(
            "system:serviceaccount:ci:robot",
            {"kind": "ServiceAccount", "namespace": "ci", "name": "robot"},
            id="the ServiceAccount that gets the access",
        ),
    ],
)
async def test_the_requester_and_the_subject_cannot_decide(
    cluster: FakeAccessCluster, client: KubeClient, user: str, subject: dict[str, str]
) -> None:
    await cluster.put_policy("on-call")
    await cluster.put_request(subject=subject)
    cluster.user = user
    with pytest.raises(ParseError, match="you are the requester or the subject of a/prod-1"):
        await approve(client)
    assert cluster.objects(ACCESS_APPROVALS) == []


async def test_a_request_that_never_counts_cannot_be_decided(cluster: FakeAccessCluster, client: KubeClient) -> None:
    await cluster.put_policy("on-call")
    await cluster.put_request(status={"conditions": [{"type": "Ready", "status": "False", "reason": "NotEnforced"}]})
    with pytest.raises(ParseError, match="delete it and ask again: connectorctl cancel a/prod-1"):
        await approve(client)
    assert cluster.objects(ACCESS_APPROVALS) == []


async def test_names_of_requests_and_locks_are_completed(cluster: FakeAccessCluster) -> None:
    await cluster.put_request()
    options = SourceOptions(source="kubernetes", kubeconfig="config")
    assert list(await asyncio.to_thread(list_keys, ACCESS_REQUESTS, None, options, Invocation())) == ["a/prod-1"]

    async def complete(plural: str, options: SourceOptions, namespace: str | None = None) -> list[str]:
        return await asyncio.to_thread(complete_access_objects, plural, namespace, options, Invocation())

    assert await complete("accessrequests", options) == ["a/prod-1"]
    assert await complete("accessrequests", options, "a") == ["a/prod-1"]
    assert await complete("accessrequests", options, "b") == []
    assert await complete("accesslocks", options) == []
    assert await complete("accesslocks", SourceOptions(source="kubernetes", kubeconfig="absent")) == []
