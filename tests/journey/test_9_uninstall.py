"""docs/uninstall.md, word by word: nothing is left but users' Connectors, and then not those either."""

from pathlib import Path

import pytest

from connector_store.domain.kubeconfig.proxy_service import ALIAS_SELECTOR
from lab.node.csi_driver import eventually
from tests.journey.documents import shell_blocks
from tests.journey.product import ROOT, SYSTEM, Product
from tests.journey.worker import NAMESPACE, WORKER, Worker, worker_pod

NAMES, UNINSTALL, DEFINITIONS = range(3)
UNINSTALLED = ROOT / "deploy/uninstall"
KINDS = "namespaces,roles,clusterroles,csidrivers,validatingadmissionpolicies,validatingadmissionpolicybindings"
NAMES_OF = r'{range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}'


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    all_blocks = shell_blocks("uninstall.md")
    assert len(all_blocks) == 3
    return all_blocks


def mounts() -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "kubernetes.io~csi" in line]


def delete_users(product: Product, blocks: list[str], *, but: str = "") -> None:
    """All pods with our volumes, and what makes them; `but` one pod, NAMESPACE/NAME."""

    def remaining_pods() -> set[str]:
        return set(product.shell([blocks[NAMES]]).split()) - {but}

    for pod in remaining_pods():
        namespace, _, name = pod.partition("/")
        product.kubectl("delete", "cronjob,deployment,job", "--all", "--wait=false", namespace=namespace)
        product.kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found", namespace=namespace)
    product.eventually(lambda: not remaining_pods())


def test_installing_again_frees_a_pod_that_was_stuck(product: Product, worker: Worker, blocks: list[str]) -> None:
    delete_users(product, blocks, but=f"{NAMESPACE}/{WORKER}")
    product.shell([blocks[UNINSTALL]])
    product.kubectl("delete", "pod", WORKER, "--wait=false", namespace=NAMESPACE)
    product.shell(["kubectl apply -k deploy"])
    result = product.kubectl.run(
        "wait", "--for=delete", f"pod/{WORKER}", "--timeout=600s", namespace=NAMESPACE, timeout=620
    )
    assert result.returncode == 0, product.state()
    product.api.apply(worker_pod(product.node.box_image), namespace=NAMESPACE)
    product.node.wait_for_pod(WORKER, NAMESPACE)
    product.kubectl("rollout", "status", "deployment/connectors-proxy", "--timeout=600s", namespace=SYSTEM, timeout=620)
    # kube-proxy may see the new proxies a moment later.
    eventually(lambda: WORKER in worker.run("get", "pods", "-o", "name").stdout)


def remnants(product: Product) -> list[str]:
    """Return the product's remaining objects: applied ones, those with its names, and bindings of its accounts."""
    kubectl = product.kubectl
    applied = kubectl("get", "--ignore-not-found", "-k", str(UNINSTALLED), "-o", "name")
    names = kubectl("get", KINDS, "--all-namespaces", "-o", "name")
    bindings = kubectl.json("get", "clusterrolebindings,rolebindings", "--all-namespaces")["items"]
    return [
        *applied.splitlines(),
        *(line for line in names.splitlines() if "/connectors" in line),
        *(
            f"{each['kind']} {each['metadata']['name']}"
            for each in bindings
            if {"connectors-system", "connectors-csi"} & {one.get("namespace") for one in each.get("subjects", [])}
        ),
    ]


def services(product: Product) -> set[str]:
    """The c-NAME Services of all Connectors."""
    output = product.kubectl("get", "services", "--all-namespaces", "-l", ALIAS_SELECTOR, "-o", f"jsonpath={NAMES_OF}")
    return set(output.split())


def test_everything_is_removed_in_the_documented_order(product: Product, worker: Worker, blocks: list[str]) -> None:
    kubectl = product.kubectl
    delete_users(product, blocks)
    assert len(remnants(product)) > 20
    product.shell([blocks[UNINSTALL]])
    # The overlay of test_8 has bound roles in these, which the page says to undo by hand.
    bindings = [f"connectors-{door}-namespace" for door in ("proxy", "controller")]
    for namespace in ("team-a", NAMESPACE):
        kubectl("delete", "rolebinding", *bindings, "--ignore-not-found", namespace=namespace)
    eventually(lambda: mounts() == [])
    assert not product.is_installed()
    assert remnants(product) == []


def test_connectors_and_their_services_are_deleted_with_the_definitions(
    product: Product, worker: Worker, blocks: list[str]
) -> None:
    kubectl = product.kubectl
    connectors = kubectl("get", "connectors", "--all-namespaces", "-o", f"jsonpath={NAMES_OF}").split()
    assert "team-a/target" in connectors
    assert services(product) == {each.replace("/", "/c-") for each in connectors}
    product.shell([blocks[DEFINITIONS]])
    assert "connectors" not in kubectl("get", "crds", "-o", "name")
    eventually(lambda: not services(product))
