"""Who may use whose Connector, as pods see it."""

import time

import pytest

from tests.journey.product import Product
from tests.journey.worker import worker_pod

SHARED = "team-a"
"""The quick start's namespace; others get the right to use its Connector `target`."""


@pytest.fixture
def stranger(product: Product, quickstart: str) -> str:
    """A namespace whose accounts may use no Connector."""
    name = f"stranger-{time.monotonic_ns()}"
    product.kubectl("create", "namespace", name)
    product.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace=name)
    return name


def grant(product: Product, namespace: str) -> None:
    product.kubectl(
        "create",
        "rolebinding",
        namespace,
        "--clusterrole=connectors-user",
        f"--group=system:serviceaccounts:{namespace}",
        namespace=SHARED,
    )


def start(product: Product, namespace: str) -> None:
    attributes = {"connector_name": "target", "connector_namespace": SHARED, "configuration_names": "kubeconfig"}
    product.api.apply(worker_pod(product.node.box_image, **attributes), namespace=namespace)


def ask(product: Product, namespace: str, kubeconfig: str) -> tuple[int, str]:
    """One request to the target, without discovery."""
    done = product.kubectl.run(
        "exec",
        "worker",
        "--",
        "kubectl",
        f"--kubeconfig={kubeconfig}",
        "get",
        "--raw=/api/v1/namespaces",
        namespace=namespace,
    )
    return done.returncode, done.stdout + done.stderr


def test_another_namespace_uses_it_once_its_group_is_bound(product: Product, stranger: str) -> None:
    grant(product, stranger)
    start(product, stranger)
    product.node.wait_for_pod("worker", stranger)
    code, answer = ask(product, stranger, "/connector/kubeconfig")
    assert (code, "kube-system" in answer) == (0, True), answer


def test_a_pod_without_the_right_waits_says_what_to_grant_and_starts_later(product: Product, stranger: str) -> None:
    start(product, stranger)
    message = _event(product, stranger)
    assert "PermissionDenied" in message
    assert f"--serviceaccount={stranger}:default" in message
    assert "eyJ" not in message
    grant(product, stranger)
    product.node.wait_for_pod("worker", stranger)


def test_a_token_does_not_work_for_a_connector_that_its_pod_may_not_use(product: Product, stranger: str) -> None:
    grant(product, stranger)
    start(product, stranger)
    product.node.wait_for_pod("worker", stranger)
    product.kubectl("delete", "rolebinding", stranger, namespace=SHARED)
    other = "sed s/%2Ftarget:/%2Fabsent:/ /connector/kubeconfig >/tmp/other"
    product.kubectl("exec", "worker", "--", "sh", "-c", other, namespace=stranger)
    code, answer = ask(product, stranger, "/tmp/other")
    assert code != 0
    assert "Forbidden" in answer
    # A grant is cached for connector_recheck, 30 s; then the response is that of a Connector that does not exist.
    deadline = time.monotonic() + 400
    while (result := ask(product, stranger, "/connector/kubeconfig")[1].replace("target", "absent")) != answer:
        assert time.monotonic() < deadline, f"long after the binding was taken away: {result}"
        time.sleep(1)


def _event(product: Product, namespace: str) -> str:
    def messages() -> list[str]:
        events = product.kubectl.json("get", "events", namespace=namespace)["items"]
        return [each["message"] for each in events if each["reason"] == "FailedMount"]

    return product.eventually(lambda: next((each for each in messages() if "PermissionDenied" in each), ""))
