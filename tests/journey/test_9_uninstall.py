"""docs/uninstall.md, word by word: nothing is left but users' Connectors, and then not those either."""

import time
from pathlib import Path

import pytest

from tests.journey.documents import shell_blocks
from tests.journey.product import Product
from tests.journey.worker import NAMESPACE, WORKER, Worker, worker_pod

NAMES, UNINSTALL, DEFINITIONS = range(3)


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    found = shell_blocks("uninstall.md")
    assert len(found) == 3
    return found


def mounts() -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "kubernetes.io~csi" in line]


def delete_users(product: Product, blocks: list[str], *, but: str = "") -> None:
    """All pods with our volumes, and what makes them; `but` one pod, NAMESPACE/NAME."""

    def left() -> set[str]:
        return set(product.shell([blocks[NAMES]]).split()) - {but}

    for pod in left():
        namespace, _, name = pod.partition("/")
        product.kubectl("delete", "cronjob,deployment,job", "--all", "--wait=false", namespace=namespace)
        product.kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found", namespace=namespace)
    deadline = time.monotonic() + 180
    while found := left():
        assert time.monotonic() < deadline, f"{found}\n{product.state()}"
        time.sleep(0.5)


def test_installing_again_frees_a_pod_that_was_stuck(product: Product, worker: Worker, blocks: list[str]) -> None:
    delete_users(product, blocks, but=f"{NAMESPACE}/{WORKER}")
    product.shell([blocks[UNINSTALL]])
    product.kubectl("delete", "pod", WORKER, "--wait=false", namespace=NAMESPACE)
    product.shell(["kubectl apply -k deploy"])
    gone = product.kubectl.run(
        "wait", "--for=delete", f"pod/{WORKER}", "--timeout=400s", namespace=NAMESPACE, timeout=420
    )
    assert gone.returncode == 0, product.state()
    product.kubectl.apply(worker_pod(product.node.box), namespace=NAMESPACE)
    product.node.wait_for_pod(WORKER, NAMESPACE)
    assert WORKER in worker.must("get", "pods", "-o", "name")


def test_everything_goes_in_the_documented_order(product: Product, quickstart: str, blocks: list[str]) -> None:
    kubectl = product.kubectl
    delete_users(product, blocks)
    product.shell([blocks[UNINSTALL]])
    assert mounts() == []
    assert not product.installed()
    named = kubectl("get", "namespaces,clusterroles,clusterrolebindings,validatingadmissionpolicies", "-o", "name")
    assert [line for line in named.splitlines() if "/connectors-" in line] == []
    assert kubectl("get", "connector", "target", "-o", "name", namespace="team-a") != ""
    product.shell([blocks[DEFINITIONS]])
    assert "connectors" not in kubectl("get", "crds", "-o", "name")
