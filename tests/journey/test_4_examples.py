"""deploy/examples as they are, but for the target's address and token."""

import base64
import time

import pytest

from tests.journey.product import ROOT, Product

EXAMPLES = ROOT / "deploy" / "examples"
NAMESPACE = "team-e"
STAGING = "staging"


@pytest.fixture(scope="module")
def target_token(product: Product, quickstart: str) -> str:
    """Of an account that may do everything there; its CA is one for all Connectors that name none."""
    target = product.target
    target.new_namespace(STAGING)
    target.kubectl("create", "deployment", "web", "--image=web", namespace=STAGING)
    # kubectl in a pod takes the pod's own namespace for the default.
    target.new_namespace(NAMESPACE)
    target.kubectl("run", "idle", "--image=idle", namespace=NAMESPACE)
    target.new_service_account("default", "anything")
    target.kubectl(
        "create", "clusterrolebinding", "a", "--clusterrole=cluster-admin", "--serviceaccount=default:anything"
    )
    ca = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "targets-ca", "labels": {"connectors.cpaas.io/ca-cert": "true"}},
        "data": {"ca.crt": base64.b64encode(target.ca_pem.encode()).decode()},
    }
    product.kubectl.apply(ca, namespace="connectors-system")
    return target.mint_token("default", "anything")


def filled(product: Product, token: str, text: str) -> str:
    assert "https://192.168.1.100:6443" in text
    return text.replace("https://192.168.1.100:6443", product.target.url).replace("token: TOKEN", f"token: {token}")


@pytest.fixture(scope="module")
def pods(product: Product, target_token: str) -> str:
    """The namespace of deploy/examples/pods."""
    product.kubectl("create", "namespace", NAMESPACE)
    manifests = product.kubectl("kustomize", str(EXAMPLES / "pods"))
    product.kubectl("apply", "-f", "-", namespace=NAMESPACE, stdin=filled(product, target_token, manifests))
    return NAMESPACE


def finished(product: Product, job: str, namespace: str) -> str:
    """Its log."""
    done = product.kubectl.run(
        "wait", "--for=condition=Complete", f"job/{job}", "--timeout=150s", namespace=namespace, timeout=180
    )
    assert done.returncode == 0, f"{done.stderr}\n{product.state()}"
    return product.kubectl("logs", f"job/{job}", namespace=namespace)


def test_the_job_lists_the_targets_namespaces(product: Product, pods: str) -> None:
    assert STAGING in finished(product, "list-namespaces", pods)


def test_the_cron_job_restarts_the_targets_deployment(product: Product, pods: str) -> None:
    product.kubectl("create", "job", "now", "--from=cronjob/restart-nightly", namespace=pods)
    assert "restarted" in finished(product, "now", pods)
    annotations = "jsonpath={.spec.template.metadata.annotations}"
    assert "restartedAt" in product.target.kubectl("get", "deployment", "web", "-o", annotations, namespace=STAGING)


def test_the_deployment_watches_the_target(product: Product, pods: str) -> None:
    product.kubectl("rollout", "status", "deployment/watcher", "--timeout=50s", namespace=pods)
    deadline = time.monotonic() + 120
    while "ADDED" not in (log := product.kubectl("logs", "deployment/watcher", namespace=pods)):
        assert time.monotonic() < deadline, f"{log}\n{product.state()}"
        time.sleep(0.5)
    assert "idle" in log


def test_a_shared_connector_serves_the_namespaces_that_are_bound(product: Product, target_token: str) -> None:
    text = (EXAMPLES / "shared" / "connector.yaml").read_text()
    product.kubectl("apply", "-f", "-", stdin=filled(product, target_token, text))
    product.kubectl("create", "namespace", "team-c")
    product.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s", namespace="team-c")
    product.kubectl("apply", "-f", str(EXAMPLES / "shared" / "pod.yaml"), namespace="team-c")
    product.node.wait_for_pod("uses-shared", "team-c", condition="jsonpath={.status.phase}=Succeeded")
    assert STAGING in product.kubectl("logs", "uses-shared", namespace="team-c")
