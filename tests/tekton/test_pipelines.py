"""Pods of real PipelineRuns get access by an ApprovalTask: Tekton's own controller creates the TaskRuns, CustomRuns and
pods.

The controller of the approval gate does not run. The test writes what it writes (0.9.0). There is no kubelet, so the
pods of the pipeline stay pending, and the test uses the token that a kubelet would mount.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.grants.admission import ADMISSION_CONFIG_MAP, TASKS_ENFORCED_SINCE
from lab.control_plane import ControlPlane
from lab.controller import API_PATH, ROOT, SYSTEM_NAMESPACE, VERSION, ConnectorCluster, Controller
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.controller.approval_run import GateTask, install_component, install_gate, policy_of_the_page
from tests.cluster.kube.installation import AUDIENCE, account_subject, bind
from tests.cluster.kube.served_connector import ServedConnector, cluster_proxy
from tests.tekton.pipeline_controller import run_pipeline_controller

PIPELINE = """
taskRunTemplate: {serviceAccountName: builder}
pipelineSpec:
  tasks:
  - name: plan
    taskSpec: {steps: [{name: step, image: example.test/step, command: ["true"]}]}
  - name: approve
    taskRef: {apiVersion: openshift-pipelines.org/v1alpha1, kind: ApprovalTask}
    params:
    - {name: approvers, value: [joe]}
    - {name: numberOfApprovalsRequired, value: "1"}
  - name: deploy
    runAfter: [approve]
    taskSpec: {steps: [{name: step, image: example.test/step, command: ["true"]}]}
"""
Json = dict[str, Any]


class Pipelines:
    """PipelineRuns of the account `builder`, whose pods ask for the Connector `k8s` of their namespace."""

    def __init__(self, served: ServedConnector) -> None:
        self._served = served
        self.api = served.plane.api
        self._namespace = served.namespace
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self.api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        self._requester = answer["status"]["userInfo"]["username"]

    def start(self, run: str) -> None:
        body = {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": run}}
        path = f"/apis/tekton.dev/v1/namespaces/{self._namespace}/pipelineruns"
        self.api.call("POST", path, body | {"spec": yaml.safe_load(PIPELINE)})

    def wait_for_child(self, plural: str, run: str, task: str) -> Json:
        """Return the object that Tekton creates for a task of the run."""
        selector = f"labelSelector=tekton.dev/pipelineRun={run},tekton.dev/pipelineTask={task}"

        def find() -> Json | None:
            items: list[Json] = self.api.call("GET", f"{self._path(plural)}?{selector}")["items"]
            return items[0] if items else None

        return wait_until(find, f"{plural} of {run}/{task}")

    def _path(self, plural: str) -> str:
        version = {"pods": "/api/v1", "customruns": "/apis/tekton.dev/v1beta1"}[plural]
        return f"{version}/namespaces/{self._namespace}/{plural}"

    def finish(self, custom_run: Json) -> None:
        """Report the approval in the status of the CustomRun, as the gate."""
        condition = {"type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "TaskRun succeeded"}
        path = f"{self._path('customruns')}/{custom_run['metadata']['name']}/status"
        self.api.call("PATCH", path, {"status": {"conditions": [condition]}})

    def request(self, pod: Json) -> Kubectl:
        """Ask for access of the pod. Return kubectl as it is in the pod."""
        metadata = pod["metadata"]
        reference = {"kind": "Pod", **{key: metadata[key] for key in ("namespace", "name", "uid")}}
        spec = {
            "requester": self._requester,
            "subject": {"kind": "ServiceAccount", "namespace": self._namespace, "name": "builder"},
            "connectorRef": {"name": "k8s"},
            "context": {"objectRef": reference},
        }
        body = {"apiVersion": VERSION, "kind": "AccessRequest", "metadata": {"name": metadata["name"]}, "spec": spec}
        self.api.call("POST", f"{API_PATH}/namespaces/{self._namespace}/accessrequests", body)
        account = self.api.call("GET", f"/api/v1/namespaces/{self._namespace}/serviceaccounts/builder")
        issuer = self._served.plane.token_issuer
        return self._served.kubectl(issuer.issue_for_pod(pod, account, audiences=[AUDIENCE], lifetime=3600))

    def wait_for_state(self, pod: Json, reason: str) -> None:
        """Wait for the reason of the condition Ready of the pod's request."""
        path = f"{API_PATH}/namespaces/{self._namespace}/accessrequests/{pod['metadata']['name']}"

        def has_reason() -> bool:
            conditions = self.api.call("GET", path).get("status", {}).get("conditions", ())
            return reason in [each["reason"] for each in conditions if each["type"] == "Ready"]

        wait_until(has_reason, f"{reason} of the request of {pod['metadata']['name']}")

    def wait_for_user(self, kubectl: Kubectl) -> None:
        wait_until(lambda: self._served.whoami(kubectl) == "target", "the access of the pod")

    def wait_for_refusal(self, kubectl: Kubectl) -> None:
        """Wait until the pod is refused for the missing right. Until then, a review may fail, but the pod stays out."""

        def is_refused() -> bool:
            answer = self._served.whoami(kubectl)
            assert answer != "target"
            return "not found in namespace" in answer

        wait_until(is_refused, "the refusal")


@pytest.fixture
def pipelines(private_control_plane: ControlPlane, tekton_programs: Path, tmp_path: Path) -> Iterator[Pipelines]:
    """Tekton, our controller with the component for Tekton, a proxy, and the policy of the page."""
    plane = private_control_plane
    cluster = ConnectorCluster(plane)
    plane.kubectl("apply", "-k", str(ROOT / "deploy" / "rbac"))
    cluster.install_access_policies()
    install_gate(plane)
    with run_pipeline_controller(plane, tekton_programs):
        install_component(plane)
        namespace = plane.create_namespace("ci")
        for account in ("builder", "target"):
            plane.create_service_account(namespace, account)
        bind(plane, namespace, "cluster-admin", subject=account_subject(namespace, "target"), name="target")
        plane.api.apply(policy_of_the_page(namespace))
        controller = Controller(plane).start()
        try:
            with cluster_proxy(tmp_path / "proxy", plane) as proxy:
                served = ServedConnector(plane=plane, proxy=proxy, namespace=namespace)
                served.apply()
                wait_for_proof(plane)
                yield Pipelines(served)
        finally:
            controller.close()


def wait_for_proof(plane: ControlPlane) -> None:
    """Wait until ApprovalTasks that are created now count."""
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{ADMISSION_CONFIG_MAP}"

    def is_in_the_past() -> bool:
        response = plane.api.request("GET", path)
        since = (response.json().get("data") or {}).get(TASKS_ENFORCED_SINCE) if response.status == 200 else None
        return since is not None and format_time(datetime.now(UTC)) >= since

    wait_until(is_in_the_past, "the proof for ApprovalTasks")


def test_pods_of_a_pipeline_run_get_access_by_its_approval_task(pipelines: Pipelines) -> None:
    runs = ("release", "other")
    for run in runs:
        pipelines.start(run)
    plans = {run: pipelines.wait_for_child("pods", run, "plan") for run in runs}
    custom_runs = {run: pipelines.wait_for_child("customruns", run, "approve") for run in runs}
    tasks = {}
    for run, custom_run in custom_runs.items():
        metadata = custom_run["metadata"]
        tasks[run] = GateTask(pipelines.api, metadata["namespace"], metadata["name"])
        tasks[run].create(custom_run, "joe", run=run)
    clients = {run: pipelines.request(pod) for run, pod in plans.items()}
    for run in runs:
        pipelines.wait_for_state(plans[run], "Pending")
        pipelines.wait_for_refusal(clients[run])
    tasks["release"].answer("joe", message="go on")
    pipelines.wait_for_state(plans["release"], "Approved")
    pipelines.wait_for_user(clients["release"])
    # Tekton creates the pod of the next task only now. It is of the same PipelineRun.
    pipelines.finish(custom_runs["release"])
    deploy = pipelines.wait_for_child("pods", "release", "deploy")
    client = pipelines.request(deploy)
    pipelines.wait_for_state(deploy, "Approved")
    pipelines.wait_for_user(client)
    pipelines.wait_for_state(plans["other"], "Pending")
    pipelines.wait_for_refusal(clients["other"])
