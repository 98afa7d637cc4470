"""Pod, runs and ApprovalTask of one PipelineRun, as Tekton and the approval gate write them, to change one field of."""

from typing import Any

Raw = dict[str, Any]
TEKTON = "tekton.dev/v1"
CREATED = "2026-01-02T03:04:05Z"
CREATED_AT = 1767323045.0


def owner(kind: str, name: str, version: str = TEKTON, uid: str = "") -> Raw:
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid or f"uid-{name}", "controller": True}


def tekton_object(name: str, *owners: Raw, status: Raw | None = None, **metadata: Any) -> Raw:
    labels = {"tekton.dev/pipelineRun": "run"}
    own = {"name": name, "namespace": "ci", "uid": f"uid-{name}", "labels": labels, "creationTimestamp": CREATED}
    return {"metadata": own | {"ownerReferences": list(owners)} | metadata, "status": status or {}}


def child(kind: str, name: str) -> Raw:
    return {"apiVersion": TEKTON, "kind": kind, "name": name}


def answer(name: str, response: str = "approved", **fields: Any) -> Raw:
    return {"name": name, "response": response, "type": "User", **fields}


POD = tekton_object("run-deploy-pod", owner("TaskRun", "run-deploy"))
TASK_RUN = tekton_object("run-deploy", owner("PipelineRun", "run"), status={"podName": "run-deploy-pod"})
PIPELINE_RUN = tekton_object(
    "run", status={"childReferences": [child("CustomRun", "run-approve"), child("TaskRun", "run-deploy")]}
)
CUSTOM_RUN = tekton_object("run-approve", owner("PipelineRun", "run"), status={"completionTime": CREATED})
APPROVAL_TASK = tekton_object(
    "run-approve",
    owner("CustomRun", "run-approve", "tekton.dev/v1beta1"),
    status={"state": "approved", "approversResponse": [answer("joe", message="go on")]},
)
APPROVAL_TASK["metadata"]["uid"] = "uid-approval-task"


def changed(raw: Raw, part: str, **fields: Any) -> Raw:
    """Return the object with other fields of its `metadata` or `status`."""
    return {**raw, part: {**raw[part], **fields}}
