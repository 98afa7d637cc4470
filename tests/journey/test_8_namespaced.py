"""docs/install.md makes of the installation one for two namespaces; test_9_uninstall takes that away."""

import pytest

from lab.node.csi_driver import eventually
from tests.journey.documents import shell_blocks
from tests.journey.product import SYSTEM, Product
from tests.journey.worker import NAMESPACE, Worker, connector, worker_pod

ELSEWHERE = "elsewhere"
POD = "namespaced"


@pytest.fixture(scope="module")
def namespaced(worker: Worker) -> Product:
    """With a pod in one of the two, and one of another namespace whose Connector is as good as any."""
    product, kubectl = worker.product, worker.product.kubectl
    kubectl("create", "namespace", ELSEWHERE)
    kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace=ELSEWHERE)
    account = f"--serviceaccount={ELSEWHERE}:default"
    kubectl("create", "rolebinding", "u", "--clusterrole=connectors-user", account, namespace=ELSEWHERE)
    product.api.apply(*connector("here", product.node.control_plane, worker.token), namespace=ELSEWHERE)
    product.api.apply(worker_pod(product.node.box_image, POD, connector_name="here"), namespace=ELSEWHERE)
    product.node.wait_for_pod(POD, ELSEWHERE)
    product.shell(shell_blocks("install.md"))
    product.api.apply(worker_pod(product.node.box_image, POD), namespace=NAMESPACE)
    product.node.wait_for_pod(POD, NAMESPACE)
    return product


def ask(product: Product, namespace: str) -> tuple[int, str]:
    command = ("kubectl", "get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}")
    done = product.kubectl.run("exec", POD, "--", *command, namespace=namespace)
    return done.returncode, done.stdout + done.stderr


def test_a_pod_of_one_of_the_namespaces_uses_its_connector(namespaced: Product) -> None:
    uses_its_connector(namespaced)


def uses_its_connector(namespaced: Product) -> None:
    """Wait until a request succeeds. Until kube-proxy has seen a rollout, a Service leads to a proxy that has ended."""
    eventually(lambda: (result := ask(namespaced, NAMESPACE))[0] == 0 and POD in result[1])


def test_a_connector_of_another_namespace_is_no_longer_served(namespaced: Product) -> None:
    reasons = ("Service Unavailable", f'namespace "{ELSEWHERE}" is not served')

    def is_refused() -> bool:
        """A proxy from before may still accept for the first seconds of its drain, and be gone after them."""
        code, answer = ask(namespaced, ELSEWHERE)
        return code != 0 and all(reason in answer for reason in reasons)

    eventually(is_refused)


def test_a_new_pod_of_another_namespace_waits_and_its_event_says_why(namespaced: Product) -> None:
    kubectl = namespaced.kubectl
    namespaced.api.apply(worker_pod(namespaced.node.box_image, "late", connector_name="here"), namespace=ELSEWHERE)

    def has_event() -> bool:
        events = kubectl("events", "--for=pod/late", namespace=ELSEWHERE)
        return f'namespace "{ELSEWHERE}" is not served' in events

    eventually(has_event)
    kubectl("delete", "pod", "late", "--grace-period=0", "--force", namespace=ELSEWHERE)


def test_its_status_has_the_condition(namespaced: Product) -> None:
    wait = ("wait", "--for=condition=Served=false", "connector/here", "--timeout=150s")
    namespaced.kubectl(*wait, namespace=ELSEWHERE)
    path = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].reason} {.status.proxy}'
    assert namespaced.kubectl("get", "connector", "here", path, namespace=ELSEWHERE) == "NamespaceNotServed "


@pytest.mark.parametrize(("namespace", "answer"), [("team-a", "yes"), (NAMESPACE, "yes"), (ELSEWHERE, "no")])
@pytest.mark.parametrize("door", ["proxy", "controller"])
def test_secrets_of_those_namespaces_only_can_be_read(
    namespaced: Product, door: str, namespace: str, answer: str
) -> None:
    who = f"--as=system:serviceaccount:{SYSTEM}:connectors-{door}"
    for verb in ("list", "watch"):
        output = namespaced.kubectl.run("auth", "can-i", verb, "secrets", who, namespace=namespace).stdout
        assert output == f"{answer}\n"


def test_a_namespace_that_is_deleted_costs_no_other_one_a_new_proxy(namespaced: Product) -> None:
    """The overlay's bindings are deleted with the namespace."""
    kubectl = namespaced.kubectl
    kubectl(
        "delete", "rolebinding", "connectors-proxy-namespace", "connectors-controller-namespace", namespace="team-a"
    )
    kubectl("rollout", "restart", "deployment", namespace=SYSTEM)
    for name in ("connectors-proxy", "connectors-controller"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=600s", namespace=SYSTEM, timeout=620)
    uses_its_connector(namespaced)
