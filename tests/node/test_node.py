import json
import subprocess
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.node.csi_driver import eventually
from lab.node.node import Node


@pytest.fixture
def pod(node: Node, node_namespace: str) -> str:
    node.kubectl("run", "box", "--image", node.box_image, namespace=node_namespace)
    node.wait_for_pod("box", node_namespace)
    return "box"


def test_a_pod_runs_and_kubectl_exec_reaches_it(node: Node, node_namespace: str, pod: str) -> None:
    assert node.kubectl("exec", pod, "--", "sh", "-c", "echo hello from $HOSTNAME", namespace=node_namespace) == (
        "hello from box\n"
    )


def test_a_pod_finds_a_service_by_name_and_reaches_it(node: Node, node_namespace: str, pod: str) -> None:
    node.kubectl("expose", "pod", pod, "--port=80", "--target-port=8000", namespace=node_namespace)
    node.kubectl("exec", pod, "--", "httpd", "-p", "8000", "-h", "/etc", namespace=node_namespace)
    request = "printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n'"
    fetch = f"until {request} | nc -w 5 box.{node_namespace}.svc.cluster.local 80; do sleep 0.2; done"
    assert "nobody" in node.kubectl("exec", pod, "--", "sh", "-c", fetch, namespace=node_namespace)


def test_a_pod_uses_its_own_account_towards_the_api_server(node: Node, node_namespace: str, pod: str) -> None:
    answer = node.kubectl("exec", pod, "--", "kubectl", "auth", "whoami", "-o", "json", namespace=node_namespace)
    assert json.loads(answer)["status"]["userInfo"]["username"] == f"system:serviceaccount:{node_namespace}:default"


def test_pods_outlive_a_restart_of_kubelet_and_api_server(node: Node, node_namespace: str, pod: str) -> None:
    node.restart_kubelet()
    node.control_plane.restart_apiserver()
    node.wait_for_pod(pod, node_namespace)
    [status] = node.kubectl.json("get", "pod", pod, namespace=node_namespace)["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_a_pod_reaches_a_second_cluster_that_stands_on_the_node(
    node: Node, node_namespace: str, pod: str, tmp_path: Path
) -> None:
    with ControlPlane(tmp_path, address=node.address) as target:
        command = ["kubectl", "--server", target.url, "--insecure-skip-tls-verify", "--token=none", "auth", "whoami"]
        with pytest.raises(subprocess.CalledProcessError) as caught:
            node.kubectl("exec", pod, "--", *command, namespace=node_namespace)
    assert "Unauthorized" in caught.value.stderr


def test_the_machine_itself_resolves_names_of_the_cluster(node: Node) -> None:
    def lookup() -> str:
        """Return nothing if the name server is too busy to answer within the few seconds of the resolver."""
        command = ["getent", "hosts", "kubernetes.default.svc.cluster.local"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert eventually(lookup).startswith("10.96.0.1 ")
