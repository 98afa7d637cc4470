"""Every query of the rules and the board has a result from a Prometheus that scrapes the product at work."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.node.csi_driver import eventually
from tests.journey.prometheus import Prometheus
from tests.journey.worker import CONNECTOR, NAMESPACE, Worker, worker_pod
from tests.monitoring.queries import panels, queried_expression, rules

REFUSED = "refused"
"""A ServiceAccount, and its pod, whose right to the Connector goes."""
TIMEOUT = 180.0
RECORDS = [each["record"] for each in rules() if "record" in each]
QUESTIONS = {each.get("alert") or f"rule {each['record']}": queried_expression(each) for each in rules()}
QUESTIONS |= {f"panel {title}, {number}": expression for number, (title, expression) in enumerate(panels())}


@pytest.fixture(scope="module")
def prometheus(worker: Worker, promtool: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    server = Prometheus(promtool.with_name("prometheus"), tmp_path_factory.mktemp("prometheus"), worker.product)
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def at_work(worker: Worker, prometheus: Prometheus) -> Iterator[Prometheus]:
    """Requests, a stream, a denial, and a volume that cannot be renewed."""
    product, kubectl = worker.product, worker.product.kubectl
    kubectl("create", "serviceaccount", REFUSED, namespace=NAMESPACE)
    account = f"--serviceaccount={NAMESPACE}:{REFUSED}"
    kubectl("create", "rolebinding", REFUSED, "--clusterrole=connectors-user", account, namespace=NAMESPACE)
    pod = worker_pod(product.node.box_image, REFUSED)
    pod["spec"]["serviceAccountName"] = REFUSED
    product.api.apply(pod, namespace=NAMESPACE)
    product.node.wait_for_pod(REFUSED, NAMESPACE)
    kubectl("delete", "rolebinding", REFUSED, namespace=NAMESPACE)
    product.node.restart_kubelet()
    # After that: the way into the worker is kubelet's.
    watch = subprocess.Popen(
        worker.command("get", "pods", "--watch-only"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield prometheus
    watch.kill()
    watch.wait()
    kubectl("delete", "pod", REFUSED, namespace=NAMESPACE)


def use(worker: Worker) -> None:
    """Some requests, good ones and ones that are denied."""
    worker.run("get", "pods")
    worker.product.kubectl.run("exec", REFUSED, "--", "kubectl", "get", "pods", namespace=NAMESPACE)


def test_every_query_of_rules_and_board_has_a_result(worker: Worker, at_work: Prometheus) -> None:
    queries = QUESTIONS | {f"record {name}": name for name in RECORDS}

    def all_answered() -> bool:
        use(worker)
        for name in [each for each, expression in queries.items() if at_work.query(expression)]:
            del queries[name]
        return not queries

    try:
        eventually(all_answered, timeout=TIMEOUT)
    except TimeoutError as error:
        raise AssertionError(f"no answer to {queries}") from error
    assert at_work.unhealthy_rules() == []


def test_the_connector_in_use_is_the_one_that_the_board_names(worker: Worker, at_work: Prometheus) -> None:
    def board_connectors() -> set[str]:
        use(worker)
        connectors = {each["metric"].get("connector", "") for each in at_work.query("connector:requests:rate5m > 0")}
        return connectors & {f"{NAMESPACE}/{CONNECTOR}"}

    assert eventually(board_connectors, timeout=TIMEOUT)


def test_every_program_reports_its_version(at_work: Prometheus) -> None:
    components = {each["metric"]["component"] for each in at_work.query("connector_build_info")}
    assert components == {"proxy", "controller", "csi"}
