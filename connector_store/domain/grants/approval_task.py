"""Approvals of Tekton's ApprovalTasks: which of them are of a pod's PipelineRun, and who approved them.

Authors of pods choose their labels and owner references. So each link counts only if both ends name the other one, and
if the owner has the UID that the reference names. A run that has ended, or is being deleted, no longer counts.

    find_approval_runs(pod, task_run, pipeline_run)             -> names of the CustomRuns that may be ApprovalTasks
    parse_approval_task(raw, custom_run, pipeline_run)          -> ApprovalTask, or None if it is not of the run

https://github.com/openshift-pipelines/manual-approval-gate/tree/main/pkg/apis/approvaltask/v1alpha1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from connector_store.domain.base.fields import Fields
from connector_store.domain.base.metadata import parse_metadata
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import AccessPolicy

MAX_APPROVAL_RUNS: Final = 16
"""CustomRuns of a PipelineRun that are looked at. The approvals of further ones do not count."""
MAX_ANSWERS: Final = 32
"""Approvers of an ApprovalTask that are looked at. Further ones do not count."""

GROUP_PREFIX: Final = "group:"
"""Prefix of a group among the approvers of a policy, as in the parameters of an ApprovalTask."""
RUN_LABEL: Final = "tekton.dev/pipelineRun"
"""Label of pods, CustomRuns and ApprovalTasks with the name of their PipelineRun."""


class ControllerReference(NamedTuple):
    """Owner reference to the controller of an object."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TektonObject:
    """Pod, TaskRun, PipelineRun or CustomRun, with its links to the others."""

    name: str
    uid: str
    owner: ControllerReference | None
    run_label: str
    is_deleted: bool
    """The object has a deletionTimestamp."""
    has_ended: bool
    """The TaskRun, PipelineRun or CustomRun has a time of completion."""
    pod_name: str
    """Pod of a TaskRun."""
    children: frozenset[tuple[str, str]]
    """Kinds and names of the children of a PipelineRun."""

    @property
    def is_running(self) -> bool:
        return not self.is_deleted and not self.has_ended

    def is_owned_by(self, owner: "TektonObject", kind: str) -> bool:
        return self.owner == (kind, owner.name, owner.uid) and bool(owner.uid)


class TaskAnswer(NamedTuple):
    """Approver who answered. `groups` are those of the ApprovalTask in which the approver answered."""

    by: str
    groups: frozenset[str] = frozenset()
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTask:
    """ApprovalTask of a PipelineRun. `approvals` and `rejections` are sorted by the names of the approvers."""

    key: ObjectKey
    uid: str
    created_at: float
    """Unix seconds of the API server's clock."""
    state: str
    approvals: tuple[TaskAnswer, ...] = ()
    rejections: tuple[TaskAnswer, ...] = ()


def parse_tekton_object(raw: Mapping[str, object]) -> TektonObject:
    """Parse a Pod, TaskRun, PipelineRun or CustomRun. Raises ParseError."""
    metadata, status = parse_metadata(raw, namespaced=True), Fields(raw, "").child("status")
    children = status.items("childReferences")
    return TektonObject(
        name=metadata.key.name,
        uid=metadata.uid,
        owner=_parse_owner(metadata.fields),
        run_label=metadata.label(RUN_LABEL) or "",
        is_deleted=metadata.fields.value("deletionTimestamp") is not None,
        has_ended=status.value("completionTime") is not None,
        pod_name=status.text("podName") or "",
        children=frozenset((each.text("kind") or "", each.text("name") or "") for each in children),
    )


def _parse_owner(metadata: Fields) -> ControllerReference | None:
    for each in metadata.items("ownerReferences"):
        if each.flag("controller") and (each.text("apiVersion") or "").startswith("tekton.dev/"):
            return ControllerReference(each.text("kind") or "", each.text("name") or "", each.text("uid") or "")
    return None


def find_approval_runs(pod: TektonObject, task_run: TektonObject, pipeline_run: TektonObject) -> tuple[str, ...]:
    """Return the names of the CustomRuns of the PipelineRun that runs the pod now, or none if it does not run it."""
    is_run = (
        pod.is_running
        and task_run.is_running
        and pipeline_run.is_running
        and pod.is_owned_by(task_run, "TaskRun")
        and task_run.pod_name == pod.name
        and task_run.is_owned_by(pipeline_run, "PipelineRun")
        and ("TaskRun", task_run.name) in pipeline_run.children
        and pod.run_label == pipeline_run.name
    )
    names = sorted(name for kind, name in pipeline_run.children if kind == "CustomRun" and name)
    return tuple(names[:MAX_APPROVAL_RUNS]) if is_run else ()


def parse_approval_task(
    raw: Mapping[str, object], custom_run: TektonObject, pipeline_run: TektonObject
) -> ApprovalTask | None:
    """Parse an ApprovalTask. Return None if it is not of this CustomRun, or the CustomRun not of this PipelineRun.

    Raises ParseError.
    """
    links, metadata = parse_tekton_object(raw), parse_metadata(raw, namespaced=True)
    is_of_run = (
        links.is_owned_by(custom_run, "CustomRun")
        and custom_run.is_owned_by(pipeline_run, "PipelineRun")
        and links.run_label == pipeline_run.name
    )
    if not is_of_run or links.is_deleted or custom_run.is_deleted:
        return None
    status = Fields(raw, "").child("status")
    return ApprovalTask(
        key=metadata.key,
        uid=metadata.uid,
        created_at=metadata.created_at or 0.0,
        state=status.text("state") or "",
        approvals=_parse_answers(status, "approved"),
        rejections=_parse_answers(status, "rejected"),
    )


def _parse_answers(status: Fields, response: str) -> tuple[TaskAnswer, ...]:
    """Return the approvers with this response. An approver may answer as a user and as a member of groups."""
    answers: dict[str, TaskAnswer] = {}

    def add(entry: Fields, groups: frozenset[str]) -> None:
        name = entry.text("name") or ""
        if name and name.isprintable() and entry.text("response") == response:
            previous = answers.get(name, TaskAnswer(name))
            answers[name] = TaskAnswer(name, previous.groups | groups, previous.message or entry.text("message") or "")

    for entry in status.items("approversResponse"):
        if (entry.text("type") or "User") == "User":
            add(entry, frozenset())
        else:
            for member in entry.items("groupMembers"):
                add(member, frozenset({entry.text("name") or ""}))
    return tuple(answers[name] for name in sorted(answers)[:MAX_ANSWERS])


def is_named(policy: AccessPolicy, answer: TaskAnswer) -> bool:
    """Return True if the check of the policy names the approver, or a group in which the approver answered."""
    approvers = policy.task_check.approvers if policy.task_check is not None else frozenset[str]()
    is_user = not answer.by.startswith(GROUP_PREFIX) and answer.by in approvers
    return is_user or any(f"{GROUP_PREFIX}{group}" in approvers for group in answer.groups if group)
