"""Which ApprovalTasks are of the PipelineRun that runs a pod, and who approved them."""

from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.grants.approval_task import (
    MAX_ANSWERS,
    MAX_APPROVAL_RUNS,
    ApprovalTask,
    TaskAnswer,
    find_approval_runs,
    is_named,
    parse_approval_task,
    parse_tekton_object,
)
from connector_store.domain.objects.access_objects import TaskCheck
from tests.connector_store.domain.grants.access_objects import POLICY
from tests.connector_store.domain.grants.tekton_objects import (
    APPROVAL_TASK,
    CREATED,
    CREATED_AT,
    CUSTOM_RUN,
    PIPELINE_RUN,
    POD,
    TASK_RUN,
    Raw,
    answer,
    changed,
    child,
    owner,
)

OTHER_LABEL = {"tekton.dev/pipelineRun": "other"}
NOT_OF_THE_RUN: list[tuple[str, dict[str, Raw]]] = [
    ("a pod without an owner", {"pod": changed(POD, "metadata", ownerReferences=[])}),
    ("a pod whose owner does not control it", {
        "pod": changed(POD, "metadata", ownerReferences=[owner("TaskRun", "run-deploy") | {"controller": False}])}),
    ("a pod that names another TaskRun", {
        "pod": changed(POD, "metadata", ownerReferences=[owner("TaskRun", "other")])}),
    ("a pod that names an earlier TaskRun of the name", {
        "pod": changed(POD, "metadata", ownerReferences=[owner("TaskRun", "run-deploy", uid="uid-old")])}),
    ("a pod that names an owner without a UID", {
        "pod": changed(POD, "metadata", ownerReferences=[owner("TaskRun", "run-deploy") | {"uid": ""}]),
        "task_run": changed(TASK_RUN, "metadata", uid="")}),
    ("a pod that names a kind of another group", {
        "pod": changed(POD, "metadata", ownerReferences=[owner("TaskRun", "run-deploy", "example.com/v1")])}),
    ("a pod that names an owner of another kind", {
        "pod": changed(POD, "metadata", ownerReferences=[owner("CustomRun", "run-deploy")])}),
    ("a pod with the label of another run", {"pod": changed(POD, "metadata", labels=OTHER_LABEL)}),
    ("a pod with no label", {"pod": changed(POD, "metadata", labels={})}),
    ("a pod that is being deleted", {"pod": changed(POD, "metadata", deletionTimestamp=CREATED)}),
    ("a TaskRun that runs another pod", {"task_run": changed(TASK_RUN, "status", podName="other")}),
    ("a TaskRun that has no pod", {"task_run": changed(TASK_RUN, "status", podName=None)}),
    ("a TaskRun that has ended", {"task_run": changed(TASK_RUN, "status", completionTime=CREATED)}),
    ("a TaskRun that is being deleted", {"task_run": changed(TASK_RUN, "metadata", deletionTimestamp=CREATED)}),
    ("a TaskRun that names another PipelineRun", {
        "task_run": changed(TASK_RUN, "metadata", ownerReferences=[owner("PipelineRun", "other")])}),
    ("a TaskRun that names an earlier PipelineRun of the name", {
        "task_run": changed(TASK_RUN, "metadata", ownerReferences=[owner("PipelineRun", "run", uid="uid-old")])}),
    ("a PipelineRun that does not list the TaskRun", {
        "pipeline_run": changed(PIPELINE_RUN, "status", childReferences=[child("CustomRun", "run-approve")])}),
    ("a PipelineRun that lists a CustomRun of that name", {
        "pipeline_run": changed(PIPELINE_RUN, "status", childReferences=[
            child("CustomRun", "run-approve"), child("CustomRun", "run-deploy")])}),
    ("a PipelineRun that has ended", {"pipeline_run": changed(PIPELINE_RUN, "status", completionTime=CREATED)}),
    ("a PipelineRun that is being deleted", {
        "pipeline_run": changed(PIPELINE_RUN, "metadata", deletionTimestamp=CREATED)}),
    ("a PipelineRun without children", {"pipeline_run": changed(PIPELINE_RUN, "status", childReferences=None)}),
]  # fmt: skip


def approval_runs(pod: Raw = POD, task_run: Raw = TASK_RUN, pipeline_run: Raw = PIPELINE_RUN) -> tuple[str, ...]:
    return find_approval_runs(
        parse_tekton_object(pod), parse_tekton_object(task_run), parse_tekton_object(pipeline_run)
    )


def test_the_custom_runs_of_the_pipeline_run_of_a_pod() -> None:
    assert approval_runs() == ("run-approve",)


@pytest.mark.parametrize(("objects"), [each for _, each in NOT_OF_THE_RUN], ids=[case for case, _ in NOT_OF_THE_RUN])
def test_a_pod_that_the_pipeline_run_does_not_run_has_none(objects: dict[str, Raw]) -> None:
    assert approval_runs(**objects) == ()


def test_the_number_of_custom_runs_has_a_bound() -> None:
    children = [child("CustomRun", f"a-{number:03}") for number in range(MAX_APPROVAL_RUNS + 1)]
    others = [child("CustomRun", ""), child("TaskRun", "run-deploy")]
    many = changed(PIPELINE_RUN, "status", childReferences=[*children, *others])
    assert approval_runs(pipeline_run=many) == tuple(each["name"] for each in children[:MAX_APPROVAL_RUNS])


def approval_task(
    raw: Raw = APPROVAL_TASK, custom_run: Raw = CUSTOM_RUN, pipeline_run: Raw = PIPELINE_RUN
) -> ApprovalTask | None:
    return parse_approval_task(raw, parse_tekton_object(custom_run), parse_tekton_object(pipeline_run))


def test_an_approval_task() -> None:
    assert approval_task() == ApprovalTask(
        key=ObjectKey("ci", "run-approve"),
        uid="uid-approval-task",
        created_at=CREATED_AT,
        state="approved",
        approvals=(TaskAnswer("joe", message="go on"),),
    )
    assert approval_task(changed(APPROVAL_TASK, "status", state=None, approversResponse=None)) == ApprovalTask(
        key=ObjectKey("ci", "run-approve"), uid="uid-approval-task", created_at=CREATED_AT, state=""
    )


@pytest.mark.parametrize(
    "objects",
    [
        {"raw": changed(APPROVAL_TASK, "metadata", ownerReferences=[])},
        {"raw": changed(APPROVAL_TASK, "metadata", ownerReferences=[owner("CustomRun", "run-approve", uid="uid-old")])},
        {"raw": changed(APPROVAL_TASK, "metadata", ownerReferences=[owner("TaskRun", "run-approve")])},
        {"raw": changed(APPROVAL_TASK, "metadata", labels=OTHER_LABEL)},
        {"raw": changed(APPROVAL_TASK, "metadata", deletionTimestamp=CREATED)},
        {"custom_run": changed(CUSTOM_RUN, "metadata", ownerReferences=[owner("PipelineRun", "other")])},
        {"custom_run": changed(CUSTOM_RUN, "metadata", ownerReferences=[owner("PipelineRun", "run", uid="uid-old")])},
        {"custom_run": changed(CUSTOM_RUN, "metadata", deletionTimestamp=CREATED)},
    ],
    ids=[
        "a task that its author links by the label alone",
        "a task of an earlier CustomRun of the name",
        "a task of an owner of another kind",
        "a task with the label of another run",
        "a task that is being deleted",
        "a CustomRun of another PipelineRun",
        "a CustomRun of an earlier PipelineRun of the name",
        "a CustomRun that is being deleted",
    ],
)
def test_this_is_not_an_approval_task_of_the_pipeline_run(objects: dict[str, Raw]) -> None:
    assert approval_task(**objects) is None


@pytest.mark.parametrize(
    ("responses", "approvals", "rejections"),
    [
        ([], (), ()),
        ([answer("joe", type="")], (TaskAnswer("joe"),), ()),
        ([answer("joe"), answer("ann"), answer("sue", "rejected", message="no")],
         (TaskAnswer("ann"), TaskAnswer("joe")), (TaskAnswer("sue", message="no"),)),
        ([answer("ops", type="Group", groupMembers=[answer("joe"), answer("ann", "rejected")])],
         (TaskAnswer("joe", frozenset({"ops"})),), (TaskAnswer("ann", frozenset({"ops"})),)),
        ([answer("joe", message="first"), answer("ops", type="Group", groupMembers=[answer("joe", message="second")])],
         (TaskAnswer("joe", frozenset({"ops"}), "first"),), ()),
        ([answer("ops", type="Group")], (), ()),
        ([answer(""), answer("joe\n"), answer("joe", "pending"), {"name": "ann"}], (), ()),
    ],
    ids=["none", "a user without a type", "users", "members of a group", "a user who is a member, too",
         "a group without members", "no name, an unprintable name, and no response"],
)  # fmt: skip
def test_answers(responses: list[Raw], approvals: tuple[TaskAnswer, ...], rejections: tuple[TaskAnswer, ...]) -> None:
    task = approval_task(changed(APPROVAL_TASK, "status", approversResponse=responses))
    assert task is not None
    assert (task.approvals, task.rejections) == (approvals, rejections)


def test_the_number_of_answers_has_a_bound() -> None:
    many = [answer(f"user-{number:03}") for number in range(MAX_ANSWERS + 1)]
    task = approval_task(changed(APPROVAL_TASK, "status", approversResponse=many))
    assert task is not None
    assert len(task.approvals) == MAX_ANSWERS


@pytest.mark.parametrize(
    "status",
    [5, {"approversResponse": 5}, {"approversResponse": [5]}, {"state": 5}, {"approversResponse": [{"name": 5}]}],
)
def test_an_object_with_wrong_types_is_a_parse_error(status: Any) -> None:
    with pytest.raises(ParseError):
        approval_task({**APPROVAL_TASK, "status": status})


@pytest.mark.parametrize(
    ("by", "approvers", "expected"),
    [
        (TaskAnswer("joe"), {"joe"}, True),
        (TaskAnswer("joe"), {"ann"}, False),
        (TaskAnswer("joe", frozenset({"ops"})), {"group:ops"}, True),
        (TaskAnswer("joe", frozenset({"ops"})), {"ops"}, False),
        (TaskAnswer("joe", frozenset({"dev"})), {"group:ops"}, False),
        (TaskAnswer("joe", frozenset({""})), {"group:"}, False),
        (TaskAnswer("joe"), {"group:ops"}, False),
        (TaskAnswer("group:ops"), {"group:ops"}, False),
    ],
    ids=["by name", "another name", "by group", "a group as a user", "another group", "an empty group",
         "a user who answered for no group", "a user with the name of a group"],
)  # fmt: skip
def test_a_policy_names_approvers(by: TaskAnswer, approvers: set[str], expected: bool) -> None:
    policy = replace(POLICY, task_check=TaskCheck(approvers=frozenset(approvers)))
    assert is_named(policy, by) is expected
    assert not is_named(POLICY, by)
