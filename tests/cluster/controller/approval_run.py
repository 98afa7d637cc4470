"""PipelineRuns with an ApprovalTask, by the real definitions of Tekton and of its approval gate.

Tests write what Tekton's controller and the gate's controller write. The rights are those that the gate's own manifests
give: every authenticated user may write ApprovalTasks and their status.
https://github.com/openshift-pipelines/manual-approval-gate/tree/v0.9.0/config/kubernetes
"""

from typing import Any

import yaml

from lab.admin_api import AdminApi, Response
from lab.control_plane import ControlPlane
from lab.controller import ROOT
from lab.programs import TEKTON, ensure_programs
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until

Json = dict[str, Any]

COMPONENT = ROOT / "deploy/components/tekton"
GATE = "system:serviceaccount:tekton-pipelines:manual-approval-gate-controller"
TASKS = "openshift-pipelines.org/v1alpha1"
DEFINITION: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "approvaltasks.openshift-pipelines.org"},
    "spec": {
        "group": "openshift-pipelines.org",
        "preserveUnknownFields": False,
        "names": {"kind": "ApprovalTask", "plural": "approvaltasks", "categories": ["tekton", "tekton-pipelines"]},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                "subresources": {"status": {}},
            }
        ],
    },
}
RIGHTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: manual-approval-gate-controller-cluster-access}
rules:
- apiGroups: [openshift-pipelines.org]
  resources: [approvaltasks]
  verbs: [get, list, create, update, delete, patch, watch]
- apiGroups: [openshift-pipelines.org]
  resources: [approvaltasks/status]
  verbs: [update, patch, create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: manual-approval-gate-controller-cluster-access}
subjects: [{kind: Group, name: "system:authenticated", apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: ClusterRole, name: manual-approval-gate-controller-cluster-access, apiGroup: rbac.authorization.k8s.io}
"""


def install_gate(plane: ControlPlane) -> None:
    """Install the definition of ApprovalTasks and the gate's rights."""
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(DEFINITION) + "---" + RIGHTS)
    plane.kubectl.wait_for_crds("approvaltasks.openshift-pipelines.org")
    wait_for_rbac(plane.api)


def install_tekton(plane: ControlPlane) -> None:
    """Install the definitions of Tekton's kinds."""
    folder = ensure_programs(TEKTON, ()) / "config" / "300-crds"
    for kind in ("taskrun", "pipelinerun", "customrun"):
        plane.kubectl("apply", "--server-side", "-f", str(folder / f"300-{kind}.yaml"))
    plane.kubectl.wait_for_crds("taskruns.tekton.dev", "pipelineruns.tekton.dev", "customruns.tekton.dev")


def install_component(plane: ControlPlane) -> None:
    """Apply the component, and wait until its admission policy is in force."""
    plane.kubectl("apply", "-f", str(COMPONENT / "policy.yaml"), "-f", str(COMPONENT / "rbac.yaml"))
    owner = {"apiVersion": "tekton.dev/v1beta1", "kind": "CustomRun", "name": "x", "uid": "x"}

    def is_in_force() -> bool:
        body = approval_task("x", owners=[owner])
        where = tasks_path("default") + "?dryRun=All"
        return b"denied request" in plane.api.request("POST", where, body, user="ted").body

    wait_until(is_in_force, "the policy for ApprovalTasks")


def policy_of_the_page(namespace: str) -> Json:
    """Return the AccessPolicy of docs/access-requests.md, for the Connector `k8s` of a namespace."""
    page = (ROOT / "docs/access-requests.md").read_text().partition("### Approve with an ApprovalTask")[2]
    policy: Json = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    policy["metadata"]["namespace"], policy["spec"]["connector"] = namespace, {"names": ["k8s"]}
    return policy


def tasks_path(namespace: str, name: str = "", subresource: str = "") -> str:
    parts = [f"/apis/{TASKS}/namespaces/{namespace}/approvaltasks", name, subresource]
    return "/".join(each for each in parts if each)


def approver(name: str, answer: str = "pending", kind: str = "User", **fields: Any) -> Json:
    return {"name": name, "input": answer, "type": kind, **fields}


def approval_task(name: str, *approvers: Json, owners: list[Json] | None = None, run: str = "") -> Json:
    metadata = {"name": name, "labels": {"tekton.dev/pipelineRun": run or name}, "ownerReferences": owners or []}
    spec = {"approvers": list(approvers) or [approver("joe")], "numberOfApprovalsRequired": 1}
    return {"apiVersion": TASKS, "kind": "ApprovalTask", "metadata": metadata, "spec": spec}


class GateTask:
    """ApprovalTask, with what the gate and the approvers write into it."""

    def __init__(self, api: AdminApi, namespace: str, name: str) -> None:
        self.api, self.namespace, self.name = api, namespace, name

    def create(self, custom_run: Json, *approvers: str, run: str = "") -> None:
        """Create it for a CustomRun of the PipelineRun `run`, as the gate."""
        body = approval_task(self.name, *map(approver, approvers), owners=[owner_reference(custom_run)], run=run)
        response = self.api.request("POST", tasks_path(self.namespace), body, user=GATE)
        assert response.status == 201, response
        self.report("pending")

    def answer(self, user: str, answer: str = "approve", message: str = "") -> None:
        """Answer as a user. Then the gate reports it."""
        path = tasks_path(self.namespace, self.name)
        approvers = self.api.call("GET", path)["spec"]["approvers"]
        for each in approvers:
            if each["name"] == user:
                each |= {"input": answer, "message": message}
        response = self.api.request("PATCH", path, {"spec": {"approvers": approvers}}, user=user)
        assert response.status == 200, response
        state = {"approve": "approved", "reject": "rejected"}[answer]
        self.report(state, {"name": user, "type": "User", "response": state, "message": message})

    def report(self, state: str, *responses: Json, user: str = GATE) -> Response:
        status = {"state": state, "approversResponse": list(responses), "approvalsRequired": 1}
        path = tasks_path(self.namespace, self.name, "status")
        return self.api.request("PATCH", path, {"status": status}, user=user)


class ApprovalRun(GateTask):
    """PipelineRun with a CustomRun for the gate, and a TaskRun with its pod, all named after the run."""

    def __init__(self, api: AdminApi, namespace: str, name: str, *, approvers: tuple[str, ...] = ("joe",)) -> None:
        super().__init__(api, namespace, name)
        self.run = self._create("v1", "PipelineRun", "pipelineruns")
        self.task_run = self._create("v1", "TaskRun", "taskruns", self.run)
        reference = {"apiVersion": TASKS, "kind": "ApprovalTask"}
        self.custom_run = self._create("v1beta1", "CustomRun", "customruns", self.run, customRef=reference)
        self._report_children()
        self.set_status("taskruns", podName=name)
        self.create(self.custom_run, *approvers)

    def _path(self, plural: str, version: str = "v1") -> str:
        return f"/apis/tekton.dev/{version}/namespaces/{self.namespace}/{plural}"

    def _create(self, version: str, kind: str, plural: str, owner: Json | None = None, **spec: Any) -> Json:
        metadata = {"name": self.name, "labels": {"tekton.dev/pipelineRun": self.name}}
        owners = [owner_reference(owner)] if owner is not None else []
        body = {"apiVersion": f"tekton.dev/{version}", "kind": kind, "spec": spec}
        created: Json = self.api.call(
            "POST", self._path(plural, version), body | {"metadata": metadata | {"ownerReferences": owners}}
        )
        return created

    def _report_children(self) -> None:
        kinds = (("TaskRun", "v1"), ("CustomRun", "v1beta1"))
        children = [{"apiVersion": f"tekton.dev/{version}", "kind": kind, "name": self.name} for kind, version in kinds]
        self.set_status("pipelineruns", childReferences=children)

    def replace_pipeline_run(self) -> None:
        """Delete the PipelineRun, and create another one of the name, whose status lists the same children."""
        self.api.call("DELETE", f"{self._path('pipelineruns')}/{self.name}")
        self._create("v1", "PipelineRun", "pipelineruns")
        self._report_children()

    def set_status(self, plural: str, **status: Any) -> None:
        self.api.call("PATCH", f"{self._path(plural)}/{self.name}/status", {"status": status})

    def create_pod(self, *, is_owned: bool = True) -> Json:
        """Create the pod of the TaskRun. Return the reference of an access request to it."""
        metadata: Json = {"name": self.name, "labels": {"tekton.dev/pipelineRun": self.name}}
        metadata["ownerReferences"] = [owner_reference(self.task_run)] if is_owned else []
        spec = {"serviceAccountName": "builder", "nodeName": "node-1", "containers": [{"name": "c", "image": "none"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        created = self.api.call("POST", f"/api/v1/namespaces/{self.namespace}/pods", body)
        uid = created["metadata"]["uid"]
        return {"kind": "Pod", "namespace": self.namespace, "name": self.name, "uid": uid}


def owner_reference(obj: Json) -> Json:
    reference = {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    metadata = obj["metadata"]
    return reference | {
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
