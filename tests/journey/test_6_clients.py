"""Programs of other clients in pods, with nothing but the volume's kubeconfig; the target is the other cluster."""

from hashlib import sha256

import pytest

from lab.node.csi_driver import eventually, volume_path
from tests.clients.programs import PYTHON, SECOND, SEED, has_completed
from tests.journey import clients
from tests.journey.product import Product
from tests.journey.worker import connector

NAMESPACE = "clients"
"""On both clusters."""
INFORMER = "informer"
CLIENT = f"{clients.FOLDER}/bin/client"
TIMEOUT = 600.0
"""Seconds for a pod to end, all starting at once on a busy machine."""
HELM = f"""
alias helm='{clients.FOLDER}/bin/helm --namespace {NAMESPACE}'
helm install settings {clients.FOLDER}/chart --set state=first --wait --timeout 300s
helm upgrade settings {clients.FOLDER}/chart --set state=second --wait --timeout 300s
helm list
helm get values settings
"""


@pytest.fixture(scope="module")
def running(product: Product, quickstart: str, product_image: str, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """All pods are started together."""
    folder = tmp_path_factory.mktemp("clients")
    clients.write_clients(folder / "clients.tar", folder / "root")
    product.node.import_image(folder / "clients.tar")
    prepare(product)
    volume = {"connector_name": "target", "configuration_names": "kubeconfig,kubeconfig-rotating"}
    pods = [
        clients.client_pod(name, product_image, [clients.PYTHON, *arguments, "use", NAMESPACE, name, SECOND], **volume)
        for name, arguments in PYTHON.items()
    ]
    box = product.node.box_image
    pods += [
        clients.client_pod("client-go", box, [CLIENT, "use", NAMESPACE, "client-go", SECOND], **volume),
        clients.client_pod("helm", box, ["sh", "-euxc", HELM], **volume),
        clients.client_pod(INFORMER, box, [CLIENT, "follow", NAMESPACE], account=INFORMER, **volume),
    ]
    pods[-1]["spec"]["containers"][0]["env"][0]["value"] = "/connector/kubeconfig-rotating"
    product.api.apply(*pods, namespace=NAMESPACE)
    return product


def prepare(product: Product) -> None:
    """A Connector with the token of an account that may do everything in the target's namespace, and who may use it."""
    target, kubectl = product.target, product.kubectl
    target.create_namespace(NAMESPACE)
    account = f"--serviceaccount={NAMESPACE}:default"
    target.kubectl("create", "rolebinding", "a", "--clusterrole=cluster-admin", account, namespace=NAMESPACE)
    target.api.apply(SEED, namespace=NAMESPACE)
    kubectl("create", "namespace", NAMESPACE)
    kubectl("create", "serviceaccount", INFORMER, namespace=NAMESPACE)
    group = f"--group=system:serviceaccounts:{NAMESPACE}"
    kubectl("create", "rolebinding", "u", "--clusterrole=connectors-user", group, namespace=NAMESPACE)
    product.api.apply(*connector("target", target, target.issue_token(NAMESPACE, "default")), namespace=NAMESPACE)
    kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace=NAMESPACE)


def finished(product: Product, name: str) -> str:
    """The log of a pod that has succeeded."""

    def phase() -> str:
        current_phase = product.kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}", namespace=NAMESPACE)
        return current_phase if current_phase in ("Succeeded", "Failed") else ""

    final_phase = eventually(phase, timeout=TIMEOUT)
    log = product.kubectl("logs", name, namespace=NAMESPACE)
    assert final_phase == "Succeeded", f"{log}\n{product.state()}"
    return log


def verbs(product: Product, pod: str) -> set[str]:
    """Return the verbs of a pod's requests to its Connector that succeeded, from the audit log."""
    return {
        each["verb"]
        for each in product.audit()
        if (each["caller"] or {}).get("pod") == pod
        and each["connector"] == f"{NAMESPACE}/target"
        and each["status"] < 300
    }


@pytest.mark.parametrize("name", [*PYTHON, "client-go"])
def test_a_client_gets_lists_writes_and_watches(running: Product, name: str) -> None:
    log = finished(running, name)
    assert has_completed(log), log
    eventually(lambda: {"get", "list", "watch", "patch"} <= verbs(running, name))


def test_helm_installs_and_upgrades_a_release(running: Product) -> None:
    log = finished(running, "helm")
    assert "deployed" in log
    assert "state: second" in log
    state = running.target.kubectl("get", "configmap", "settings", "-o", "jsonpath={.data.state}", namespace=NAMESPACE)
    assert state == "second"
    eventually(lambda: {"get", "list", "watch", "patch"} <= verbs(running, "helm"))


def test_an_informer_works_after_its_first_token_expired(running: Product) -> None:
    """Its account is created again, so the token is invalid, and kubelet puts another into the volume."""
    eventually(lambda: "synced" in informer_log(running))
    inside(running, "cp /connector/context.token /tmp/first")
    first = inside(running, "cat /tmp/first")
    eventually(lambda: f"watch {digest(first)} 200" in informer_log(running))
    for verb in ("delete", "create"):
        running.kubectl(verb, "serviceaccount", INFORMER, namespace=NAMESPACE)
    running.node.restart_kubelet()
    volume = volume_path(running.node, NAMESPACE, INFORMER)
    eventually(lambda: (volume / "context.token").read_text() != first)
    second = inside(running, "cat /connector/context.token")
    eventually(lambda: f"watch {digest(second)} 200" in informer_log(running))
    running.target.kubectl("create", "configmap", "later", namespace=NAMESPACE)
    eventually(lambda: "added later" in informer_log(running))
    inside(running, "sed s,context.token,/tmp/first, /connector/kubeconfig-rotating >/tmp/kubeconfig")
    kubectl = "kubectl --kubeconfig=/tmp/kubeconfig get --raw=/version 2>&1 || echo refused"

    def is_refused() -> bool:
        """On a busy machine, the first refusal may have another reason."""
        output = inside(running, kubectl)
        return "refused" in output and "the token is not valid" in output

    eventually(is_refused)


def inside(product: Product, script: str) -> str:
    """Run a shell in the informer's pod; a kubelet that has just started does not know the pod yet."""

    def run() -> list[str]:
        done = product.kubectl.run("exec", INFORMER, "--", "sh", "-euc", script, namespace=NAMESPACE)
        return [done.stdout] if done.returncode == 0 else []

    return eventually(run)[0]


def informer_log(product: Product) -> str:
    """Return nothing if the container has not started yet."""
    return product.kubectl.run("logs", INFORMER, namespace=NAMESPACE).stdout


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
