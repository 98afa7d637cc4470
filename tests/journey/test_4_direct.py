"""Pods that take the proxy for the API server: by a kubeconfig, and by nothing but their service account's files."""

import json

import pytest

from lab.node.csi_driver import eventually, volume_path
from tests.journey.product import SYSTEM, Product
from tests.journey.worker import CONNECTOR, NAMESPACE, OTHER, WORKER, Worker, worker_pod

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DIRECT = "direct"
INSIDE = "inside"
BY_TLS = "by-tls"


@pytest.fixture(scope="module")
def pods(worker: Worker) -> Product:
    product = worker.product
    direct = worker_pod(product.node.box_image, DIRECT, configuration_names="kubeconfig-direct")
    direct["spec"]["containers"][0]["env"] = [{"name": "KUBECONFIG", "value": "/connector/kubeconfig-direct"}]
    inside = worker_pod(product.node.box_image, INSIDE, configuration_names="in-cluster")
    [container] = inside["spec"]["containers"]
    container["env"] = [{"name": "KUBERNETES_SERVICE_HOST", "value": f"c-{CONNECTOR}.{NAMESPACE}.svc.cluster.local"}]
    container["volumeMounts"] = [{"name": "connector", "mountPath": ACCOUNT}]
    product.api.apply(direct, inside, namespace=NAMESPACE)
    for name in (DIRECT, INSIDE):
        product.node.wait_for_pod(name, NAMESPACE)
    return product


def kubectl(product: Product, pod: str, *arguments: str) -> str:
    command = ["exec", pod, "--", "kubectl", f"--namespace={NAMESPACE}", *arguments]
    done = product.kubectl.run(*command, namespace=NAMESPACE, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{product.state()}"
    return done.stdout


@pytest.mark.parametrize("pod", [DIRECT, INSIDE])
def test_kubectl_reads_writes_and_executes(pods: Product, pod: str) -> None:
    assert OTHER in kubectl(pods, pod, "get", "pods", "--output=name")
    kubectl(pods, pod, "create", "configmap", f"from-{pod}", "--from-literal=a=b")
    assert kubectl(pods, pod, "exec", OTHER, "--", "sh", "-c", "echo hello") == "hello\n"
    kubectl(pods, pod, "delete", "configmap", f"from-{pod}")


@pytest.mark.parametrize("pod", [DIRECT, INSIDE])
def test_it_keeps_working_with_a_renewed_token(pods: Product, pod: str) -> None:
    path = "/connector/context.token" if pod == DIRECT else f"{ACCOUNT}/token"

    def token() -> str:
        return pods.kubectl.run("exec", pod, "--", "cat", path, namespace=NAMESPACE).stdout

    before = eventually(token)
    pods.node.restart_kubelet()
    eventually(lambda: token() not in ("", before))
    assert OTHER in kubectl(pods, pod, "get", "pods", "--output=name")


def test_with_proxy_tls_every_kubeconfig_uses_tls_to_the_proxy(pods: Product, worker: Worker) -> None:
    """This test is the last: the driver restarts with the setting, and again without it."""

    def set_tls(value: str) -> None:
        patch = json.dumps({"data": {"proxy-tls": value}})
        pods.kubectl("patch", "configmap", "connectors-config", "--type=merge", "--patch", patch, namespace=SYSTEM)
        pods.kubectl("rollout", "restart", "daemonset/connectors-csi", namespace="connectors-csi")
        rollout = ["rollout", "status", "daemonset/connectors-csi", "--timeout=400s"]
        assert pods.kubectl.run(*rollout, namespace="connectors-csi", timeout=420).returncode == 0, pods.state()

    kubeconfig = volume_path(pods.node, NAMESPACE, WORKER) / "kubeconfig"
    set_tls("true")
    try:
        pods.api.apply(worker_pod(pods.node.box_image, BY_TLS), namespace=NAMESPACE)
        pods.node.wait_for_pod(BY_TLS, NAMESPACE)
        config = pods.kubectl("exec", BY_TLS, "--", "cat", "/connector/kubeconfig", namespace=NAMESPACE)
        assert f"@c-{CONNECTOR}.{NAMESPACE}.svc.cluster.local:443" in config
        assert "proxy-url: https://" in config
        for file in ("kubeconfig", "kubeconfig-rotating"):
            assert OTHER in kubectl(pods, BY_TLS, f"--kubeconfig=/connector/{file}", "get", "pods", "--output=name")
        eventually(lambda: "proxy-url: https://" in kubeconfig.read_text())
        assert "proxy-url: https://" in worker.shell("cat /connector/kubeconfig")
    finally:
        set_tls("false")
    eventually(lambda: "proxy-url: http://" in kubeconfig.read_text())
    assert "proxy-url: http://" in worker.shell("cat /connector/kubeconfig")
