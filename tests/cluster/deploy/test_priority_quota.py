"""The driver's pods are admitted where critical priority classes are limited to quotas that name them, as on GKE."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import ControlPlane
from lab.process import Process
from lab.programs import KUBERNETES, ensure_programs
from lab.waiting import wait_until

DEPLOY = Path(__file__).parents[3] / "deploy"
PATIENCE = 300.0
"""Seconds until the controller has started, and has counted the quota for the first time."""
LIMITED = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "ResourceQuota",
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "ResourceQuotaConfiguration",
                "limitedResources": [
                    {
                        "resource": "pods",
                        "matchScopes": [
                            {
                                "scopeName": "PriorityClass",
                                "operator": "In",
                                "values": ["system-node-critical", "system-cluster-critical"],
                            }
                        ],
                    }
                ],
            },
        }
    ],
}
"""kubernetes.io, "Limit Priority Class consumption by default"."""


@pytest.fixture(scope="module")
def plane(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("limited")
    (folder / "admission.json").write_text(json.dumps(LIMITED))
    arguments = [f"--admission-control-config-file={folder / 'admission.json'}"]
    with ControlPlane(folder, programs=cluster_programs, arguments=arguments) as plane:
        counting = Process(
            [
                ensure_programs(KUBERNETES, ("kube-controller-manager",)) / "kube-controller-manager",
                f"--kubeconfig={plane.kubeconfig}",
                "--controllers=resourcequota-controller",
                "--leader-elect=false",
                "--secure-port=0",
            ],
            log=plane.folder / "kube-controller-manager.log",
        )
        counting.start()
        yield plane
        counting.kill()


def driver_pod() -> dict[str, Any]:
    daemon_set = yaml.safe_load((DEPLOY / "csi/daemonset.yaml").read_text())
    template = daemon_set["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "generateName": "connectors-csi-"},
        "spec": template["spec"],
    }


def create(plane: ControlPlane, namespace: str) -> str:
    """Create the driver's pod in a dry run and return the error; empty if it is admitted."""
    answer = plane.api.request("POST", f"/api/v1/namespaces/{namespace}/pods", driver_pod())
    return "" if answer.status == 201 else answer.body.decode()


def test_a_driver_pod_is_admitted_only_with_its_quota(plane: ControlPlane) -> None:
    plane.kubectl("apply", "-f", str(DEPLOY / "csi/namespace.yaml"))
    plane.create_namespace("elsewhere")
    for namespace in ("elsewhere", "connectors-csi"):
        plane.create_service_account(namespace, "connectors-csi")
    # An API server that has just started does not know its own priority classes yet.
    refused = "insufficient quota to match these scopes"
    wait_until(lambda: refused in create(plane, "elsewhere"), "a refusal without a quota", timeout=PATIENCE)

    def is_admitted() -> bool:
        output = create(plane, "connectors-csi")
        # Until the quota has been counted for the first time.
        assert not output or "status unknown for quota" in output or "insufficient quota" in output, output
        return not output

    wait_until(is_admitted, "a counted quota", timeout=PATIENCE)
