"""A newcomer follows docs/quickstart.md word by word; everything after it uses what that left."""

import base64
import json
from typing import Any

import pytest

from lab.kubectl import Kubectl
from lab.node.csi_driver import eventually
from lab.process import complete_lines
from tests.journey.documents import BY_CALLER, shell_blocks
from tests.journey.product import Product


@pytest.fixture
def kubectl(product: Product, quickstart: str) -> Kubectl:
    return product.kubectl


def test_the_log_of_the_job_lists_the_targets_namespaces(quickstart: str) -> None:
    listed = quickstart[quickstart.rindex("NAME ") :]
    assert {"default", "kube-system"} <= set(listed.split())


def test_the_connector_is_ready_and_says_where_the_proxy_is(kubectl: Kubectl) -> None:
    def status_with_address() -> Any:
        """Return the status once it has the proxy's address. Ready may be True before the CA exists."""
        status = kubectl.json("get", "connector", "target", namespace="team-a")["status"]
        return status if status["proxy"]["httpAddress"] else None

    status = eventually(status_with_address)
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions["Ready"] == "True"
    published = status["proxy"]["httpAddress"]
    assert published["url"] == "http://c-target.team-a.svc.cluster.local"
    own = kubectl.json("get", "configmap", "connectors-proxy-ca", namespace="connectors-system")["data"]["ca.crt"]
    assert base64.b64decode(published["CACerts"]).decode().strip() == own.strip()


def test_all_that_runs_is_ready_and_did_not_restart(product: Product, kubectl: Kubectl) -> None:
    def statuses() -> list[dict[str, Any]]:
        namespaces = ("connectors-system", "connectors-csi")
        pods = [pod for each in namespaces for pod in kubectl.json("get", "pods", namespace=each)["items"]]
        return [status for pod in pods for status in pod["status"]["containerStatuses"]]

    # On a busy machine, a program may answer a probe too late.
    eventually(lambda: all(each["ready"] for each in statuses()))
    assert {each["restartCount"] for each in statuses()} == {0}, product.state()


def test_nothing_in_the_product_logs_a_token(kubectl: Kubectl) -> None:
    secret = kubectl.json("get", "secret", "target", namespace="team-a")["data"]["token"]
    token = base64.b64decode(secret).decode()
    for namespace in ("connectors-system", "connectors-csi"):
        for pod in kubectl("get", "pods", "-o", "name", namespace=namespace).split():
            log = kubectl("logs", pod, namespace=namespace)
            assert token not in log
            assert token.rpartition(".")[2] not in log
            assert "eyJ" not in log


def test_the_proxies_account_for_the_job(product: Product, quickstart: str) -> None:
    def lists() -> list[dict[str, Any]]:
        """Return the requests that succeeded. The Job starts another pod after one that failed."""
        lines = [each for each in product.audit() if each["status"] == 200]
        return [each for each in lines if each.get("resource") == "namespaces" and each.get("verb") == "list"]

    [listed] = eventually(lists)
    assert listed["connector"] == "team-a/target"
    assert listed["caller"]["user"] == "system:serviceaccount:team-a:pipeline"
    assert listed["caller"]["pod"].startswith("list-namespaces-")


def test_in_its_second_half_the_target_decides_by_the_pods_account_and_its_log_has_the_pod(
    product: Product, quickstart: str
) -> None:
    printed = product.shell(shell_blocks("quickstart.md", after=BY_CALLER))
    assert "configmap/hello created" in printed
    can_i = ("auth", "can-i", "create", "configmaps", "--as=system:serviceaccount:default:deployer")
    assert product.target.kubectl.run(*can_i, namespace="web").stdout.strip() == "no"

    def events() -> list[dict[str, Any]]:
        lines = complete_lines(product.target.audit_log)
        events = [json.loads(line) for line in lines if '"configmaps"' in line]
        return [each for each in events if (each["verb"], each["objectRef"].get("namespace")) == ("create", "web")]

    # The API server may write the event after its response.
    [event] = eventually(events)
    assert event["user"]["username"] == "system:serviceaccount:default:deployer"
    assert event["impersonatedUser"]["username"] == "connectors:system:serviceaccount:team-a:pipeline"
    [pod] = event["impersonatedUser"]["extra"]["authentication.kubernetes.io/pod-name"]
    assert pod.startswith("write-configmap-")
