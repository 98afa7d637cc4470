"""AccessApprovals of ApprovalTasks, with a fake API server that has Tekton's objects."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from connector_controller.admission_proof import FORGED_USER, NOT_PROVED, PROOF_INTERVAL
from connector_controller.approval_tasks import MAX_COMMENT, ApprovalTasks
from connector_controller.event_recorder import Regarding
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.grants.access_index import AccessClock, AccessIndex
from connector_store.domain.grants.admission import TASK_POLICIES
from connector_store.domain.objects.access_objects import (
    AccessPolicy,
    AccessRequest,
    ApprovalRule,
    PodReference,
    TaskCheck,
)
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.events import EventType
from connector_store.kube.resources import (
    ACCESS_APPROVALS,
    APPROVAL_TASKS,
    CUSTOM_RUNS,
    PIPELINE_RUNS,
    PODS,
    TASK_RUNS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
    Resource,
)
from tests.connector_store.domain.grants.access_objects import CI, CONNECTOR, NAMESPACE, POLICY, REQUEST
from tests.connector_store.domain.grants.tekton_objects import Raw, answer, child, owner
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import until

CHECKED = replace(POLICY, task_check=TaskCheck(approvers=frozenset({"joe", "ann"})))
NAMES = {PODS: "run-deploy-pod", TASK_RUNS: "run-deploy", PIPELINE_RUNS: "run", CUSTOM_RUNS: "run-approve",
         APPROVAL_TASKS: "run-approve"}  # fmt: skip
OWNERS = {PODS: TASK_RUNS, TASK_RUNS: PIPELINE_RUNS, CUSTOM_RUNS: PIPELINE_RUNS, APPROVAL_TASKS: CUSTOM_RUNS}
STATUS: dict[Resource, Raw] = {
    TASK_RUNS: {"podName": "run-deploy-pod"},
    PIPELINE_RUNS: {"childReferences": [child("CustomRun", "run-approve"), child("TaskRun", "run-deploy")]},
    APPROVAL_TASKS: {"state": "approved", "approversResponse": [answer("joe", message="go\x1b on")]},
}


def uid_of(resource: Resource) -> str:
    """Return the UID that the fake API server gives to the object."""
    return f"uid-{resource.path('ci', NAMES[resource])}"


IN_POD = replace(
    REQUEST, subject=CI, requester=CI, pod=PodReference(key=ObjectKey("ci", "run-deploy-pod"), uid=uid_of(PODS))
)


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient, start: Callable[..., Any]) -> None:
        self.server = server
        self.index = AccessIndex(lambda _: CONNECTOR, clock=AccessClock(lambda: 0.0, lambda: 0.0))
        self.put_policy(CHECKED)
        self.events: list[tuple[Regarding, EventType, str, str]] = []
        self.enqueued: list[ObjectKey] = []
        self.wakes, self.proofs = 0, 0
        self.is_admitted = False
        server.faults.append(self._admit)
        self.tasks = ApprovalTasks(
            client,
            self.index,
            system_namespace="connectors-system",
            events=self,
            enqueue=self.enqueued.append,
            wake=self._count_wake,
            on_proof=self._count_proof,
            start=start,
        )

    def _count_wake(self) -> None:
        self.wakes += 1

    def _count_proof(self) -> None:
        self.proofs += 1

    def _admit(self, request: web.Request) -> web.Response | None:
        """TaskAnswer the dry run as an API server with the admission policy."""
        if request.method != "POST" or not request.path.endswith("/approvaltasks"):
            return None
        assert request.query["dryRun"] == "All"
        if self.is_admitted:
            return web.json_response({}, status=201)
        name = "approvaltasks.connectors.alauda.io"
        text = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: metadata.ownerReferences: no"
        return refusal(403, "Forbidden", text)

    def record(self, regarding: Regarding, event_type: EventType, reason: str, note: str) -> None:
        self.events.append((regarding, event_type, reason, note))

    def put_policy(self, policy: AccessPolicy | None) -> None:
        self.index.set(AccessPolicy, CHECKED.key, policy)

    async def put(self, resource: Resource, *, created: float = 4e9, **status: Any) -> None:
        metadata: Raw = {"namespace": "ci", "name": NAMES[resource], "labels": {"tekton.dev/pipelineRun": "run"}}
        metadata["creationTimestamp"] = format_time(datetime.fromtimestamp(created, UTC))
        if (above := OWNERS.get(resource)) is not None:
            metadata["ownerReferences"] = [owner(above.kind, NAMES[above], above.api_version, uid_of(above))]
        spec = {"serviceAccountName": "builder"} if resource is PODS else {}
        body = {"metadata": metadata, "spec": spec, "status": STATUS.get(resource, {}) | status}
        await self.server.put(resource, body)

    async def decide(self, request: AccessRequest = IN_POD, *policies: AccessPolicy) -> str:
        return await self.tasks.decide(request, policies or (CHECKED,))

    def approvals(self) -> list[Raw]:
        path = ACCESS_APPROVALS.path(NAMESPACE)
        return [each for name, each in self.server.save()[1].items() if name.startswith(f"{path}/")]

    def decisions(self) -> list[tuple[str, str]]:
        return sorted((each["spec"]["by"], each["spec"]["decision"]) for each in self.approvals())


@pytest.fixture
async def unproved() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeApiServer().serving())
        client = await stack.enter_async_context(KubeClient(server.configuration))
        tasks: set[asyncio.Task[Any]] = set()

        def start(work: Any) -> "asyncio.Task[Any]":
            task = asyncio.get_running_loop().create_task(work)
            tasks.add(task)
            return task

        world = World(server, client, start)
        for name in TASK_POLICIES:
            metadata = {"name": name}
            await server.put(VALIDATING_ADMISSION_POLICIES, {"metadata": metadata, "spec": {}})
            binding = {"metadata": metadata, "spec": {"policyName": name, "validationActions": ["Deny"]}}
            await server.put(VALIDATING_ADMISSION_POLICY_BINDINGS, binding)
        for resource in NAMES:
            await world.put(resource)
        yield world
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def world(unproved: World) -> World:
    assert await unproved.tasks.reconcile("approval-tasks") == PROOF_INTERVAL
    return unproved


async def test_an_approval_of_a_named_approver_becomes_an_access_approval_once(world: World) -> None:
    assert await world.decide() == uid_of(APPROVAL_TASKS)
    assert await world.decide() == uid_of(APPROVAL_TASKS)
    (approval,) = world.approvals()
    assert approval["spec"] == {
        "requestRef": {"name": "r", "uid": "r-1"},
        "policyRef": {"name": "on-call", "uid": "p-1"},
        "by": "joe",
        "decision": "Approved",
        "comment": "go? on",
        "taskRef": {"namespace": "ci", "name": "run-approve", "uid": uid_of(APPROVAL_TASKS)},
    }
    (request,) = approval["metadata"]["ownerReferences"]
    assert (request["kind"], request["uid"]) == ("AccessRequest", "r-1")
    assert world.events == []


@pytest.mark.parametrize("resource", NAMES, ids=[each.kind for each in NAMES])
async def test_without_one_of_the_objects_nothing_is_approved(world: World, resource: Resource) -> None:
    await world.server.delete(resource, NAMES[resource], "ci")
    assert await world.decide() == ""
    assert world.approvals() == []


@pytest.mark.parametrize(
    "request_",
    [
        replace(IN_POD, pod=None),
        replace(IN_POD, pod=replace(IN_POD.pod or PodReference(key=ObjectKey("", "")), uid="uid-earlier-pod")),
        replace(IN_POD, subject="system:serviceaccount:ci:other"),
    ],
    ids=["a request without a pod", "an earlier pod of the name", "a pod that runs as another account"],
)
async def test_a_request_for_something_else_is_not_approved(world: World, request_: AccessRequest) -> None:
    assert await world.decide(request_) == ""


async def test_a_pod_or_a_task_run_without_an_owner_is_not_approved(world: World) -> None:
    for resource in (TASK_RUNS, PODS):
        stored = await world.server.put(
            resource,
            {
                "metadata": {"namespace": "ci", "name": NAMES[resource]},
                "spec": {"serviceAccountName": "builder"},
                "status": STATUS.get(resource, {}),
            },
        )
        assert stored["metadata"]["uid"] == uid_of(resource)
        assert await world.decide() == ""


async def test_a_task_from_before_the_proof_of_admission_is_not_approved(world: World) -> None:
    await world.put(APPROVAL_TASKS, created=1e9)
    assert await world.decide() == ""


async def test_an_object_that_cannot_be_read_approves_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await world.put(APPROVAL_TASKS, approversResponse=5)
    assert await world.decide() == ""
    assert "status.approversResponse: is not a list" in caplog.text


async def test_a_pending_task_decides_nothing(world: World) -> None:
    await world.put(APPROVAL_TASKS, state="pending")
    assert await world.decide() == ""
    assert world.events == []


RULE = ApprovalRule()
BY_RIGHT = replace(POLICY, task_check=TaskCheck())


@pytest.mark.parametrize(
    ("policy", "answers", "expected"),
    [
        (CHECKED, [answer("bob")], []),
        (CHECKED, [answer("bob"), answer("ann")], ["ann"]),
        (CHECKED, [answer("joe"), answer("ann")], ["ann"]),
        (replace(CHECKED, approval=replace(RULE, required=2)), [answer("joe"), answer("bob")], []),
        (replace(CHECKED, approval=replace(RULE, required=2)), [answer("joe"), answer("ann")], ["ann", "joe"]),
        (replace(CHECKED, task_check=TaskCheck(approvers=frozenset({CI}))), [answer(CI)], []),
        (replace(CHECKED, task_check=TaskCheck(approvers=frozenset({"system:serviceaccount:a:b"}))),
         [answer("system:serviceaccount:a:b")], []),
        (replace(CHECKED, approval=replace(RULE, service_accounts_may_approve=True),
                 task_check=TaskCheck(approvers=frozenset({"system:serviceaccount:a:b"}))),
         [answer("system:serviceaccount:a:b")], ["system:serviceaccount:a:b"]),
        (BY_RIGHT, [answer("joe")], []),
        (BY_RIGHT, [answer("joe"), answer("sue")], ["sue"]),
    ],
    ids=["not named", "one of two is named", "two, and one is needed", "one of two that are needed", "two are needed",
         "the subject", "an account", "an account that may approve", "without the verb", "with the verb"],
)  # fmt: skip
async def test_who_approved_decides(
    world: World, policy: AccessPolicy, answers: list[Raw], expected: list[str]
) -> None:
    world.server.allowed.add(("sue", f"{NAMESPACE}/on-call"))
    await world.put(APPROVAL_TASKS, approversResponse=answers)
    assert bool(await world.decide(IN_POD, policy)) == bool(expected)
    assert world.decisions() == [(each, "Approved") for each in expected]
    assert [(event[0].kind, *event[1:3]) for event in world.events] == (
        [] if expected else [("AccessPolicy", "Warning", "ApproversNotNamed")]
    )


async def test_the_right_is_checked_with_the_group_of_the_answer(world: World) -> None:
    members = [answer("ops", type="Group", groupMembers=[answer("sue")])]
    await world.put(APPROVAL_TASKS, approversResponse=members)
    await world.decide(IN_POD, BY_RIGHT)
    (review,) = (body["body"] for method, path, body in world.server.requests if path.endswith("subjectaccessreviews"))
    assert review["spec"] == {
        "user": "sue",
        "groups": ["ops"],
        "resourceAttributes": {
            "group": "connectors.alauda.io",
            "resource": "accesspolicies",
            "namespace": NAMESPACE,
            "name": "on-call",
            "verb": "approve",
        },
    }


async def test_the_first_policy_with_enough_approvers_judges(world: World) -> None:
    strict = replace(CHECKED, key=ObjectKey(NAMESPACE, "a"), uid="p-2", approval=replace(RULE, required=2))
    await world.decide(IN_POD, strict, CHECKED)
    assert [each["spec"]["policyRef"]["uid"] for each in world.approvals()] == ["p-1"]


@pytest.mark.parametrize(
    ("answers", "by"),
    [
        ([answer("joe"), answer("sue", "rejected", message="x" * 2000)], "sue"),
        ([], "ApprovalTask ci/run-approve"),
        ([answer(CI, "rejected")], "ApprovalTask ci/run-approve"),
    ],
    ids=["by a user", "because it took too long", "by the subject"],
)
async def test_a_rejection_denies(world: World, answers: list[Raw], by: str) -> None:
    await world.put(APPROVAL_TASKS, state="rejected", approversResponse=answers)
    assert await world.decide() == uid_of(APPROVAL_TASKS)
    assert world.decisions() == [(by, "Denied")]
    assert len(world.approvals()[0]["spec"]["comment"]) <= MAX_COMMENT


async def test_a_refusal_of_the_api_server_is_tried_again(world: World) -> None:
    for method, suffix in (("GET", "/run-approve"), ("POST", "/accessapprovals")):

        def refuse(request: web.Request, method: str = method, suffix: str = suffix) -> web.Response | None:
            is_meant = request.method == method and request.path.endswith(suffix)
            return refusal(403, "Forbidden", "no") if is_meant else None

        world.server.faults.append(refuse)
        with pytest.raises(ApiError):
            await world.decide()
        world.server.faults.remove(refuse)


async def test_nothing_is_read_before_the_proof(unproved: World) -> None:
    assert unproved.tasks.problem == NOT_PROVED
    assert await unproved.decide() == ""
    assert unproved.server.requests == []


async def test_without_a_policy_with_the_check_nothing_is_sent(unproved: World) -> None:
    unproved.put_policy(POLICY)
    assert await unproved.tasks.reconcile("approval-tasks") is None
    assert unproved.server.requests == []


async def test_policies_with_the_check_wake_the_proof_once(world: World) -> None:
    world.tasks.require()
    world.tasks.require()
    assert world.wakes == 1
    world.put_policy(None)
    assert await world.tasks.reconcile("approval-tasks") is None
    assert world.tasks.problem == NOT_PROVED
    assert await world.decide() == ""
    world.tasks.require()
    assert world.wakes == 2


async def test_a_change_of_the_proof_is_reported(world: World) -> None:
    assert (world.tasks.problem, world.proofs) == ("", 1)
    await world.tasks.reconcile("approval-tasks")
    assert world.proofs == 1
    world.is_admitted = True
    await world.tasks.reconcile("approval-tasks")
    assert "the API server admitted a forged ApprovalTask; install Tekton's approval gate" in world.tasks.problem
    assert world.proofs == 2
    assert await world.decide() == ""
    forged = next(body["body"] for _, path, body in world.server.requests if path.endswith("/approvaltasks"))
    assert forged["metadata"]["ownerReferences"][0]["name"] == FORGED_USER


async def test_a_change_of_a_task_enqueues_the_requests_of_pods_in_its_namespace(world: World) -> None:
    other = replace(IN_POD, key=ObjectKey(NAMESPACE, "other"), pod=PodReference(key=ObjectKey("cd", "p"), uid="u"))
    path = APPROVAL_TASKS.path()
    await until(lambda: path in world.server.watched_paths)
    for request in (IN_POD, other, replace(IN_POD, key=ObjectKey(NAMESPACE, "no-pod"), pod=None)):
        world.tasks.await_change(request)
    assert world.enqueued == []
    await world.put(APPROVAL_TASKS, state="pending")
    await until(lambda: world.enqueued == [IN_POD.key])
    await world.server.delete(APPROVAL_TASKS, "run-approve", "ci")
    await until(lambda: world.enqueued == [IN_POD.key] * 2)
    world.tasks.forget(IN_POD.key)
    world.tasks.forget(IN_POD.key)
    world.put_policy(None)
    await world.tasks.reconcile("approval-tasks")
    await until(lambda: path not in world.server.watched_paths)


async def test_a_watch_that_begins_enqueues_all_requests_that_wait(unproved: World) -> None:
    """Changes from before it are in no event. Neither are those that a watch missed which begins again."""
    other = replace(IN_POD, key=ObjectKey(NAMESPACE, "other"), pod=PodReference(key=ObjectKey("cd", "p"), uid="u"))
    for request in (IN_POD, other):
        unproved.tasks.await_change(request)
    await unproved.tasks.reconcile("approval-tasks")
    await until(lambda: unproved.enqueued == [IN_POD.key, other.key])
    await until(lambda: APPROVAL_TASKS.path() in unproved.server.watched_paths)
    await unproved.put(PODS)
    unproved.server.compact()
    unproved.server.drop_streams()
    await until(lambda: unproved.enqueued == [IN_POD.key, other.key] * 2)


async def test_without_the_policy_the_next_step_is_named(unproved: World) -> None:
    await unproved.server.delete(VALIDATING_ADMISSION_POLICIES, TASK_POLICIES[0])
    await unproved.tasks.reconcile("approval-tasks")
    assert unproved.tasks.problem.endswith("apply deploy/components/tekton, or remove the check")
    unproved.server.faults.append(
        lambda request: refusal(403, "Forbidden", "no") if TASK_POLICIES[0] in request.path else None
    )
    await unproved.tasks.reconcile("approval-tasks")
    assert unproved.tasks.problem.endswith("no; apply deploy/components/tekton")
