"""Status and clean-up of access requests, with a fake API server and a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from connector_controller.access_objects import TASK_UID, AccessCaches, AccessKey, AccessReconciler
from connector_controller.admission_proof import NOT_PROVED
from connector_controller.approval_tasks import ApprovalTasks
from connector_controller.event_recorder import Regarding
from connector_controller.metrics import ControllerMetrics
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.grants.access_grant import PENDING_LIFETIME
from connector_store.domain.grants.access_index import AccessClock, AccessIndex
from connector_store.domain.objects.access_objects import AccessApproval, AccessPolicy, AccessRequest
from connector_store.domain.objects.models import Connector
from connector_store.domain.status.access_status import FINISHED_LIFETIME, MAX_PENDING, TOO_MANY_PENDING
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.events import EventType
from connector_store.kube.resources import ACCESS_APPROVALS, ACCESS_POLICIES, ACCESS_REQUESTS, PODS, Resource
from tests.connector_store.domain.grants.access_objects import CONNECTOR, PROD
from tests.fakes.api_server import FakeApiServer, refusal

NAMESPACE = PROD.namespace
CREATED = 1_000_000.0
KINDS = {AccessPolicy: ACCESS_POLICIES, AccessRequest: ACCESS_REQUESTS, AccessApproval: ACCESS_APPROVALS}
REQUEST = {"requester": "jane", "subject": {"kind": "User", "name": "jane"}, "connectorRef": {"name": "prod"},
           "duration": "1h"}  # fmt: skip


def at(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server, self.client = server, client
        self.now = CREATED + 60
        self.connectors: dict[ObjectKey, Connector] = {PROD: CONNECTOR}
        self.index = AccessIndex(self.connectors.get, clock=AccessClock(lambda: self.now, lambda: self.now))
        self.index.set_enforced_since(0.0)
        self.enqueued: list[AccessKey] = []
        self.caches = AccessCaches(self.enqueued.append)
        self.consumers = {resource: make(None) for resource, make in self.caches.consumers.items()}
        self.events: list[tuple[EventType, str]] = []
        self.proofs_requested = 0
        self.tasks = ApprovalTasks(
            client,
            self.index,
            system_namespace="connectors-system",
            events=self,
            enqueue=lambda key: self.enqueued.append(AccessKey(AccessRequest, key)),
            wake=self._count_proof,
            on_proof=lambda: None,
            start=asyncio.get_running_loop().create_task,
        )
        self.restart()

    def restart(self) -> None:
        """Start a new controller."""
        self.reconciler = AccessReconciler(
            self.client,
            self.index,
            self.caches,
            tasks=self.tasks,
            events=self,
            enqueue=self.enqueued.append,
            now=lambda: self.now,
        )
        self.reconciler.is_admission_known = True

    def _count_proof(self) -> None:
        self.proofs_requested += 1

    def record(self, regarding: Regarding, event_type: EventType, reason: str, note: str) -> None:
        assert regarding.kind == "AccessRequest"
        assert regarding.key.name.startswith("r")
        self.events.append((event_type, reason))

    async def put(self, resource: Resource, name: str, spec: dict[str, Any], *, created: float = CREATED) -> None:
        metadata = {"name": name, "namespace": NAMESPACE, "creationTimestamp": at(created)}
        await self.server.put(resource, {"metadata": metadata, "spec": spec})

    async def get(self, resource: Resource, name: str) -> dict[str, Any]:
        return await self.client.get(resource.path(NAMESPACE, name))

    async def reconcile(self, kind: type, name: str) -> float | None:
        """Read the object as a watch would, and reconcile it."""
        resource, key = KINDS[kind], ObjectKey(NAMESPACE, name)
        parse, sink = self.consumers[resource]
        try:
            observed = parse(await self.get(resource, name))
        except ApiError:
            sink.replace(())
            self.index.set(kind, key, None)
        else:
            sink.put(observed)
            self.index.set(kind, key, observed.obj)
        return await self.reconciler.reconcile(AccessKey(kind, key))

    async def ask(self, **spec: Any) -> None:
        await self.put(ACCESS_REQUESTS, "r", REQUEST | spec)
        await self.reconcile(AccessRequest, "r")

    async def decide(self, decision: str = "Approved", by: str = "joe", name: str = "r") -> None:
        request, policy = await self.get(ACCESS_REQUESTS, name), await self.get(ACCESS_POLICIES, "on-call")
        spec = {
            "requestRef": {"name": name, "uid": request["metadata"]["uid"]},
            "policyRef": {"name": "on-call", "uid": policy["metadata"]["uid"]},
            "by": by,
            "decision": decision,
        }
        await self.put(ACCESS_APPROVALS, "a", spec, created=CREATED + 60)
        await self.reconcile(AccessApproval, "a")
        await self.reconcile(AccessRequest, name)

    async def conditions(self, resource: Resource = ACCESS_REQUESTS, name: str = "r") -> dict[str, tuple[str, str]]:
        status = (await self.get(resource, name))["status"]
        return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}

    def counts(self) -> dict[str, float]:
        metrics = ControllerMetrics()
        self.reconciler.counts.show(metrics)
        samples = next(iter(metrics.access_requests.collect())).samples
        return {each.labels["state"]: each.value for each in samples if each.value}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        world = World(server, client)
        await world.put(ACCESS_POLICIES, "on-call", {"connector": {"names": ["prod"]}, "approval": {}})
        await world.reconcile(AccessPolicy, "on-call")
        yield world


async def test_twenty_requests_of_a_subject_are_pending_and_the_next_one_waits_for_a_place(world: World) -> None:
    names = [f"r-{number:02}" for number in range(MAX_PENDING + 3)]
    for name in names:
        await world.put(ACCESS_REQUESTS, name, REQUEST)
    joe = {"requester": "joe", "subject": {"kind": "User", "name": "joe"}}
    await world.put(ACCESS_REQUESTS, "r-other", REQUEST | joe)
    # The controller may see them in any order, and counts them again after its start.
    for name in (*names, *reversed(names), "r-other", *names):
        await world.reconcile(AccessRequest, name)

    async def reasons() -> list[str]:
        return [(await world.conditions(name=name))["Ready"][1] for name in names if name not in gone]

    gone: set[str] = set()
    assert await reasons() == ["Pending"] * MAX_PENDING + [TOO_MANY_PENDING] * 3
    assert (await world.conditions(name="r-other"))["Ready"][1] == "Pending"
    assert world.counts() == {"pending": MAX_PENDING + 1, "finished": 3}
    world.enqueued.clear()
    await world.server.delete(ACCESS_REQUESTS, names[0], NAMESPACE)
    gone.add(names[0])
    await world.reconcile(AccessRequest, names[0])
    assert AccessKey(AccessRequest, ObjectKey(NAMESPACE, names[MAX_PENDING])) in world.enqueued
    await world.reconcile(AccessRequest, names[MAX_PENDING])
    assert await reasons() == ["Pending"] * MAX_PENDING + [TOO_MANY_PENDING] * 2
    # An approver can approve a request that has no place.
    await world.decide(name=names[-1])
    assert (await world.conditions(name=names[-1]))["Ready"] == ("True", "Approved")


async def test_a_new_controller_judges_each_request_a_bounded_number_of_times_and_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"r-{number:02}" for number in range(3 * MAX_PENDING)]
    for name in names:
        await world.put(ACCESS_REQUESTS, name, REQUEST)
    for name in (*names, *names):
        await world.reconcile(AccessRequest, name)
    patches = world.server.count("PATCH", "status")
    judged: list[str] = []
    judge = world.index.judge

    def count_and_judge(request: AccessRequest) -> object:
        judged.append(request.key.name)
        return judge(request)

    monkeypatch.setattr(world.index, "judge", count_and_judge)
    world.restart()
    for name in reversed(names):
        await world.reconcile(AccessRequest, name)
    assert len(judged) == 2 * len(names)
    assert world.server.count("PATCH", "status") == patches, "a new controller writes nothing"
    judged.clear()
    for name in names:
        await world.server.delete(ACCESS_REQUESTS, name, NAMESPACE)
        await world.reconcile(AccessRequest, name)
    assert judged == []
    assert world.counts() == {}


async def test_a_request_is_pending_approved_ended_and_deleted(world: World) -> None:
    await world.ask()
    assert (await world.conditions())["Ready"] == ("False", "Pending")
    assert world.counts() == {"pending": 1}
    writes = len(world.server.requests)
    assert await world.reconcile(AccessRequest, "r") == pytest.approx(PENDING_LIFETIME - 59)
    assert world.events == []

    await world.decide()
    assert [each for each in world.server.requests[writes:] if each[0] == "PATCH" and "/status" not in each[1]]
    assert await world.conditions() == {
        "ContextObjectValid": ("True", "NoContextObject"),
        "AccessPolicyMatched": ("True", "AsExpected"),
        "Approved": ("True", "Approved"),
        "Ready": ("True", "Approved"),
    }
    status = (await world.get(ACCESS_REQUESTS, "r"))["status"]
    assert (status["startTime"], status["expirationTime"]) == (at(CREATED + 60), at(CREATED + 3660))
    assert status["approvedBy"] == ["joe"]
    assert world.counts() == {"approved": 1}
    assert await world.reconcile(AccessRequest, "r") == pytest.approx(3601)

    world.now += 3600
    await world.reconcile(AccessRequest, "r")
    assert (await world.conditions())["Ready"] == ("False", "Ended")
    assert world.counts() == {"finished": 1}
    assert world.events == [("Normal", "Approved"), ("Normal", "Ended")]
    assert await world.reconcile(AccessRequest, "r") == pytest.approx(FINISHED_LIFETIME + 1)

    world.now += FINISHED_LIFETIME
    assert await world.reconcile(AccessRequest, "r") is None
    with pytest.raises(ApiError):
        await world.get(ACCESS_REQUESTS, "r")
    await world.reconcile(AccessRequest, "r")
    assert world.counts() == {}


async def test_a_denied_request_stays_for_a_day_after_the_time_in_which_it_could_be_approved(world: World) -> None:
    await world.ask()
    await world.decide("Denied")
    assert (await world.conditions())["Ready"] == ("False", "Denied")
    assert world.events == [("Warning", "Denied")]
    world.now = CREATED + PENDING_LIFETIME + FINISHED_LIFETIME - 1
    await world.reconcile(AccessRequest, "r")
    await world.get(ACCESS_REQUESTS, "r")
    world.now += 1
    await world.reconcile(AccessRequest, "r")
    with pytest.raises(ApiError):
        await world.get(ACCESS_REQUESTS, "r")


async def test_a_request_that_no_longer_counts_says_what_to_do(world: World) -> None:
    await world.ask()
    await world.decide()
    world.index.set_enforced_since(world.now)
    await world.reconcile(AccessRequest, "r")
    assert (await world.conditions())["Ready"] == ("False", "NotEnforced")
    assert world.events == [("Normal", "Approved"), ("Warning", "NotEnforced")]


async def test_a_grant_that_was_lost_after_days_is_not_deleted_at_once(world: World) -> None:
    await world.ask(duration="8h")
    await world.decide()
    world.now = CREATED + 10 * PENDING_LIFETIME
    del world.connectors[PROD]
    world.index.on_connector_changed(PROD)
    await world.reconcile(AccessRequest, "r")
    assert (await world.conditions())["Ready"] == ("False", "ConnectorNotFound")
    await world.reconcile(AccessRequest, "r")
    await world.get(ACCESS_REQUESTS, "r")


async def test_until_a_decision_the_status_does_not_tell_whether_the_connector_exists(world: World) -> None:
    await world.ask()
    existing = (await world.get(ACCESS_REQUESTS, "r"))["status"]
    for name in ("none", "prod"):
        world.index.set(AccessPolicy, ObjectKey(NAMESPACE, "on-call"), None)
        await world.ask(connectorRef={"name": name})
        assert (await world.get(ACCESS_REQUESTS, "r"))["status"] == existing
    assert world.events == []


async def test_the_requesters_own_approval_tells_nothing(world: World) -> None:
    world.connectors.clear()
    await world.ask()
    await world.decide(by="jane")
    assert (await world.conditions())["Ready"] == ("False", "Pending")
    await world.decide(by="joe")
    assert (await world.conditions())["Ready"] == ("False", "ConnectorNotFound")


async def test_an_approval_gets_its_request_as_owner_once(world: World) -> None:
    await world.ask()
    await world.decide()
    assert AccessKey(AccessRequest, ObjectKey(NAMESPACE, "r")) in world.enqueued
    request, approval = await world.get(ACCESS_REQUESTS, "r"), await world.get(ACCESS_APPROVALS, "a")
    assert approval["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "connectors.alauda.io/v1alpha1",
            "kind": "AccessRequest",
            "name": "r",
            "uid": request["metadata"]["uid"],
        }
    ]
    patches = world.server.count("PATCH", "a")
    await world.reconcile(AccessApproval, "a")
    assert world.server.count("PATCH", "a") == patches == 1


async def test_a_policy_that_is_not_supported_says_so(world: World) -> None:
    spec: dict[str, Any] = {"checkGrantedPermission": {"spec": {"checks": [{"name": "own"}]}}}
    await world.put(ACCESS_POLICIES, "p", spec)
    await world.reconcile(AccessPolicy, "p")
    conditions = await world.conditions(ACCESS_POLICIES, "p")
    assert conditions == {"Ready": ("False", "PolicyNotSupported"), "WideOpen": ("False", "AsExpected")}
    writes = world.server.count("PATCH", "status")
    await world.reconcile(AccessPolicy, "p")
    assert world.server.count("PATCH", "status") == writes


async def test_requests_wait_until_it_is_known_whether_the_admission_policies_are_in_force(world: World) -> None:
    world.reconciler.is_admission_known = False
    await world.ask()
    assert "status" not in await world.get(ACCESS_REQUESTS, "r")


async def test_an_object_deleted_meanwhile_is_not_an_error_and_other_refusals_are(world: World) -> None:
    await world.ask()
    world.now = CREATED + PENDING_LIFETIME + FINISHED_LIFETIME + 1
    key = AccessKey(AccessRequest, ObjectKey(NAMESPACE, "r"))
    world.server.faults.append(lambda request: refusal(404, "NotFound", "gone"))
    await world.reconciler.reconcile(key)
    world.server.faults[:] = [lambda request: refusal(500, "InternalError", "etcd")]
    with pytest.raises(ApiError):
        await world.reconciler.reconcile(key)
    world.server.faults.clear()
    await world.reconcile(AccessRequest, "r")
    await world.reconcile(AccessRequest, "r")
    world.now += FINISHED_LIFETIME
    for status, is_error in ((404, False), (409, False), (500, True)):

        def refuse(request: object, status: int = status) -> Any:
            return refusal(status, "Reason", "text")

        world.server.faults[:] = [refuse]
        if is_error:
            with pytest.raises(ApiError):
                await world.reconciler.reconcile(key)
        else:
            await world.reconciler.reconcile(key)


async def test_each_watch_has_its_own_cache(world: World) -> None:
    consumers = {scope: world.caches.consumers[ACCESS_REQUESTS](scope) for scope in ("a", "b")}
    for scope, (parse, sink) in consumers.items():
        metadata = {"name": "r", "namespace": scope, "uid": scope, "creationTimestamp": at(CREATED)}
        sink.replace((parse({"metadata": metadata, "spec": REQUEST}),))
    keys = [AccessKey(AccessRequest, ObjectKey(scope, "r")) for scope in ("a", "b")]
    assert all(world.caches.get(key) is not None for key in keys)
    assert set(keys) <= set(world.caches.all_keys())
    world.caches.drop("a")
    assert [world.caches.get(key) is None for key in keys] == [True, False]
    assert str(keys[0]) == "AccessRequest a/r"


def test_an_object_without_an_identity_is_skipped(world: World) -> None:
    parse, _ = world.caches.consumers[ACCESS_REQUESTS](None)
    assert parse({"kind": "AccessRequest", "metadata": {}}) is None


POD_KEY = {"kind": "Pod", "namespace": "ci", "name": "build-1"}
FOR_POD = {
    "requester": "system:serviceaccount:connectors-csi:connectors-csi",
    "subject": {"kind": "ServiceAccount", "namespace": "ci", "name": "builder"},
    "context": {"objectRef": POD_KEY},
}


async def put_pod(world: World, account: str = "builder") -> str:
    metadata = {"namespace": "ci", "name": "build-1"}
    spec = {"serviceAccountName": account, "nodeName": "node-1"}
    uid: str = (await world.server.put(PODS, {"metadata": metadata, "spec": spec}))["metadata"]["uid"]
    return uid


async def test_a_request_gets_the_uid_of_its_pod_and_can_then_be_approved(world: World) -> None:
    await world.ask(**FOR_POD)
    assert (await world.conditions())["Ready"] == ("False", "PodNotSet")
    assert await world.reconcile(AccessRequest, "r") == 60
    await put_pod(world, account="default")
    assert await world.reconcile(AccessRequest, "r") == 60
    uid = await put_pod(world)
    await world.reconcile(AccessRequest, "r")
    request = await world.get(ACCESS_REQUESTS, "r")
    assert request["spec"]["context"]["objectRef"] == {**POD_KEY, "uid": uid}
    await world.reconcile(AccessRequest, "r")
    assert (await world.conditions())["ContextObjectValid"] == ("True", "AsExpected")
    assert (await world.conditions())["Ready"] == ("False", "Pending")
    await world.decide()
    assert (await world.conditions())["Ready"] == ("True", "Approved")
    reads = world.server.count("GET", "build-1")
    await world.reconcile(AccessRequest, "r")
    assert world.server.count("GET", "build-1") == reads


async def test_a_pending_request_is_deleted_with_its_pod(world: World) -> None:
    uid = await put_pod(world)
    context = {"objectRef": POD_KEY, "mount": {"nodeName": "node-1", "podUID": uid}}
    await world.ask(**FOR_POD | {"context": context})
    await world.reconcile(AccessRequest, "r")
    assert await world.reconcile(AccessRequest, "r") == 60
    await world.server.delete(PODS, "build-1", "ci")
    assert await world.reconcile(AccessRequest, "r") is None
    with pytest.raises(ApiError):
        await world.get(ACCESS_REQUESTS, "r")


async def test_a_pod_that_cannot_be_read_is_tried_again(world: World) -> None:
    world.server.faults.append(
        lambda request: refusal(403, "Forbidden", "no") if request.path.endswith("build-1") else None
    )
    with pytest.raises(ApiError):
        await world.ask(**FOR_POD)


CHECKS: dict[str, Any] = {
    "connector": {"names": ["prod"]},
    "checkGrantedPermission": {
        "spec": {"checks": [{"ref": {"configMap": {"name": "connectors-approvals-in-pipeline"}}}]}
    },
}


async def test_an_approval_task_decides_a_request_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []
    decided_by = ""

    async def decide(request: AccessRequest, policies: Sequence[AccessPolicy]) -> str:
        asked.append((request.key.name, [policy.key.name for policy in policies]))
        return decided_by

    monkeypatch.setattr(world.tasks, "decide", decide)
    await world.put(ACCESS_POLICIES, "checked", CHECKS)
    await world.reconcile(AccessPolicy, "checked")
    assert (await world.conditions(ACCESS_POLICIES, "checked"))["Ready"] == ("False", "CheckNotRunning")
    status = (await world.get(ACCESS_POLICIES, "checked"))["status"]
    assert any(NOT_PROVED in each["message"] for each in status["conditions"])
    assert world.proofs_requested == 1
    context = {"objectRef": {**POD_KEY, "uid": await put_pod(world)}}
    await world.ask(**FOR_POD | {"context": context})
    assert asked == []
    # After its status is written, the request waits for a task.
    await world.reconcile(AccessRequest, "r")
    assert asked == [("r", ["checked"])]
    world.tasks._on_change("ci")
    assert world.enqueued[-1] == AccessKey(AccessRequest, ObjectKey(NAMESPACE, "r"))
    decided_by = "task-1"
    await world.reconcile(AccessRequest, "r")
    assert (await world.get(ACCESS_REQUESTS, "r"))["status"][TASK_UID] == "task-1"
    # The approval is deleted: the task does not approve again.
    await world.reconcile(AccessRequest, "r")
    assert len(asked) == 2
    world.enqueued.clear()
    world.tasks._on_change("ci")
    assert world.enqueued == []


async def test_a_deleted_request_waits_for_no_task(world: World) -> None:
    await world.put(ACCESS_POLICIES, "checked", CHECKS)
    await world.reconcile(AccessPolicy, "checked")
    context = {"objectRef": {**POD_KEY, "uid": await put_pod(world)}}
    await world.ask(**FOR_POD | {"context": context})
    await world.reconcile(AccessRequest, "r")
    await world.server.delete(ACCESS_REQUESTS, "r", NAMESPACE)
    await world.reconcile(AccessRequest, "r")
    world.enqueued.clear()
    world.tasks._on_change("ci")
    assert world.enqueued == []
