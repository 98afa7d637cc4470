"""The driver is replaced while pods start, run and stop; a rollout stops at a pod that does not become ready."""

from pathlib import Path
from typing import Any

import pytest

from lab.node.csi_driver import eventually
from lab.rbac import wait_for_rbac
from tests.journey.product import ROOT, Product
from tests.journey.worker import CONNECTOR, NAMESPACE, OTHER, Worker, worker_pod

CSI = "connectors-csi"
DAEMON_SET = f"daemonset/{CSI}"


def restart(product: Product) -> None:
    product.kubectl("rollout", "restart", DAEMON_SET, namespace=CSI)


def rolled_out(product: Product, seconds: int) -> bool:
    status = ["rollout", "status", DAEMON_SET, f"--timeout={seconds}s"]
    return product.kubectl.run(*status, namespace=CSI, timeout=seconds + 30).returncode == 0


def driver(product: Product) -> dict[str, Any]:
    """The pod that there is, once the one before it has gone."""

    def only() -> dict[str, Any]:
        pods = product.kubectl.json("get", "pods", "-l", f"app.kubernetes.io/name={CSI}", namespace=CSI)["items"]
        pod: dict[str, Any] = pods[0] if len(pods) == 1 else {}
        return pod

    return eventually(only)


def test_a_driver_that_cannot_list_is_not_ready_and_stops_the_rollout(worker: Worker) -> None:
    product = worker.product
    before = driver(product)["metadata"]["uid"]
    product.kubectl("delete", "clusterrolebinding", CSI)
    wait_for_rbac(product.api)
    try:
        restart(product)
        eventually(lambda: driver(product)["metadata"]["uid"] != before)
        # It lives and serves what there is; new pods of this node wait, and no other node gets it.
        eventually(lambda: driver(product)["status"]["phase"] == "Running")
        assert not rolled_out(product, 20)
        [status] = driver(product)["status"]["containerStatuses"]
        assert (status["ready"], status["restartCount"]) == (False, 0)
        events = ("get", "events", "-o", "jsonpath={.items[*].message}")
        eventually(lambda: "Readiness probe failed" in product.kubectl(*events, namespace=CSI))
        assert OTHER in worker.must("get", "pods", "--output=name")
    finally:
        product.kubectl("apply", "-f", str(ROOT / "deploy" / "csi" / "rbac.yaml"))
    assert rolled_out(product, 400), product.state()


def test_pods_start_and_stop_while_it_is_replaced(worker: Worker) -> None:
    product = worker.product
    box = product.node.box_image
    product.api.apply(worker_pod(box, "going"), namespace=NAMESPACE)
    product.node.wait_for_pod("going", NAMESPACE)
    uid = product.kubectl("get", "pod", "going", "-o", "jsonpath={.metadata.uid}", namespace=NAMESPACE)
    restart(product)
    product.kubectl("delete", "pod", "going", "--wait=false", namespace=NAMESPACE)
    product.api.apply(worker_pod(box, "coming"), namespace=NAMESPACE)
    assert rolled_out(product, 400), product.state()
    product.node.wait_for_pod("coming", NAMESPACE)
    eventually(lambda: not (product.node.kubelet_root / "pods" / uid).exists())
    mounts = Path("/proc/self/mountinfo").read_text()
    assert uid not in mounts
    assert OTHER in worker.must("get", "pods", "--output=name")


@pytest.mark.parametrize("kind", ["on the node's own network", "with one file of the volume by subPath"])
def test_other_kinds_of_pods_use_it_too(worker: Worker, kind: str) -> None:
    product = worker.product
    name = "network" if "network" in kind else "subpath"
    pod = worker_pod(product.node.box_image, name, connector_name=CONNECTOR)
    if name == "network":
        pod["spec"] |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    else:
        [container] = pod["spec"]["containers"]
        mount = {"name": "connector", "mountPath": "/connector/kubeconfig", "subPath": "kubeconfig"}
        container["volumeMounts"] = [mount]
    product.api.apply(pod, namespace=NAMESPACE)
    product.node.wait_for_pod(name, NAMESPACE)
    command = ["exec", name, "--", "kubectl", f"--namespace={NAMESPACE}", "get", "pods", "--output=name"]
    assert OTHER in product.kubectl(*command, namespace=NAMESPACE)
    product.kubectl("delete", "pod", name, "--wait=false", namespace=NAMESPACE)
