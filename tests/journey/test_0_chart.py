"""docs/helm.md, word by word, on a fresh node: from `helm install` to a Job, up, back, and away again.

docs/kind.md uses the same installation; tests/docs/test_commands.py checks its commands of Docker and kind.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.process import Process
from tests.journey.documents import BY_CALLER, shell_blocks
from tests.journey.product import ROOT, SYSTEM, Product

INSTALL, UPGRADE, ROLLBACK, UNINSTALL = range(4)
NAMESPACE = "connectors-system"


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    all_blocks = shell_blocks("helm.md")
    assert len(all_blocks) == 4
    return all_blocks


@pytest.fixture(scope="module")
def released(product: Product, blocks: list[str]) -> Iterator[str]:
    """Install with Helm and return the output of the quick start's Job; at the end the node is as it was before."""
    product.shell([blocks[INSTALL]])
    _, *later_blocks = shell_blocks("quickstart.md", before=BY_CALLER)
    yield product.shell(later_blocks)
    product.shell(
        ["kubectl delete --ignore-not-found -k deploy/crds", "kubectl delete namespace team-a connectors-system"]
    )
    account = "kubectl --kubeconfig target.kubeconfig delete"
    minter = "serviceaccount/deployer-minter role/deployer-minter rolebinding/deployer-minter secret/deployer-minter"
    created = f"serviceaccount/deployer {minter} --namespace default --ignore-not-found"
    product.shell([f"{account} {created}", f"{account} clusterrolebinding deployer"])


def drain(product: Product) -> str:
    return product.kubectl("get", "configmap", "connectors-config", "-o", "jsonpath={.data.drain}", namespace=SYSTEM)


def proxies(product: Product) -> set[str]:
    selector = ("-l", "app.kubernetes.io/name=connectors-proxy")
    return set(product.kubectl("get", "pods", *selector, "-o", "name", namespace=SYSTEM).split())


def test_two_values_are_enough_for_the_quick_starts_job(released: str) -> None:
    listed = released[released.rindex("NAME ") :]
    assert {"default", "kube-system"} <= set(listed.split())


def test_helm_test_gets_the_answer_of_a_proxy(product: Product, released: str) -> None:
    product.shell([f"helm test connector --namespace {NAMESPACE} --timeout 5m"])
    assert ": 403 " in product.kubectl("logs", "connectors-test", namespace=NAMESPACE)
    product.kubectl("delete", "pod", "connectors-test", namespace=NAMESPACE)


def test_the_page_about_kind_leads_to_kubectl_through_a_port_forward(
    product: Product, released: str, blocks: list[str], tmp_path: Path
) -> None:
    _, install, lend, allow, forward, use, _ = shell_blocks("kind.md")
    assert install == blocks[INSTALL]
    product.shell([lend, allow])
    program, *arguments = shlex.split(forward)
    assert program == "kubectl"
    process = Process(
        [product.kubectl.program, f"--kubeconfig={product.kubectl.kubeconfig}", *arguments], log=tmp_path / "forward"
    )
    process.start()
    try:
        process.wait_until(lambda: "Forwarding from" in process.log.read_text(), timeout=180)
        printed = product.shell([use])
    finally:
        process.stop()
    assert "system:serviceaccount:default:kind" in printed
    assert "kube-system" in printed.split()
    product.shell(
        [
            "kubectl delete namespace dev --wait=false",
            "kubectl delete clusterrolebinding kind",
            "kubectl delete --namespace default --ignore-not-found "
            "serviceaccount,role,rolebinding,secret kind kind-minter",
        ]
    )


def test_an_upgrade_replaces_the_pods_that_read_a_changed_setting(
    product: Product, released: str, blocks: list[str]
) -> None:
    before = proxies(product)
    product.shell([blocks[UPGRADE]])
    assert drain(product) == "30"
    product.eventually(lambda: not before & proxies(product))


def test_a_rollback_brings_the_former_settings_back(product: Product, released: str, blocks: list[str]) -> None:
    product.shell([blocks[ROLLBACK]])
    assert drain(product) == ""
    product.kubectl("delete", "job", "list-namespaces", namespace="team-a")
    *_, job = shell_blocks("quickstart.md", before=BY_CALLER)
    assert "kube-system" in product.shell([job])


def test_a_definition_that_was_changed_is_upgraded_too(product: Product, released: str, blocks: list[str]) -> None:
    column = '[{"op": "remove", "path": "/spec/names/shortNames"}]'
    name = "connectors.connectors.alauda.io"
    product.kubectl("patch", "crd", name, "--type=json", f"--patch={column}")
    product.shell([f"{blocks[UPGRADE].strip()} --force-conflicts"])
    assert product.kubectl("get", "crd", name, "-o", "jsonpath={.spec.names.shortNames[0]}") == "conn"


def test_uninstalling_keeps_definitions_and_connectors(product: Product, released: str, blocks: list[str]) -> None:
    product.kubectl("delete", "jobs", "--all", namespace="team-a")
    product.shell([blocks[UNINSTALL]])
    assert not product.is_installed()
    assert "connector.connectors.alauda.io/target" in product.kubectl(
        "get", "connectors", "-o", "name", namespace="team-a"
    )
    remaining = product.kubectl("get", "-k", str(ROOT / "deploy" / "uninstall"), "--ignore-not-found", "-o", "name")
    assert remaining.split() == [f"namespace/{NAMESPACE}"]
