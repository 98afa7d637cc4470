"""Every query of the rules and the board has a result from a Prometheus that scrapes the product at work.

Before, connectorctl doctor finds no problem.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.node.csi_driver import eventually
from lab.process import environment_without_proxies
from tests.journey.product import ROOT
from tests.journey.prometheus import Prometheus
from tests.journey.worker import CONNECTOR, NAMESPACE, Worker, worker_pod
from tests.monitoring.queries import board, panels, queried_expression, rules

sys.path.insert(0, str(ROOT / "scripts"))
from board import prometheus_query, render_board

REFUSED = "refused"
"""A ServiceAccount, and its pod, whose right to the Connector goes."""
TIMEOUT = 600.0
PICTURE_SECONDS = 120.0
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
    # The way into the worker is kubelet's, which does not know its pods at once.
    eventually(lambda: worker.run("version").returncode == 0)
    watch = subprocess.Popen(
        worker.command("get", "pods", "--watch-only"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield prometheus
    watch.kill()
    watch.wait()
    kubectl("delete", "pod", REFUSED, "--wait=false", namespace=NAMESPACE)


def use(worker: Worker) -> None:
    """Some requests, good ones and ones that are denied."""
    worker.run("get", "pods")
    worker.product.kubectl.run("exec", REFUSED, "--", "kubectl", "get", "pods", namespace=NAMESPACE)


def test_doctor_finds_no_problem_in_an_installation_that_works(worker: Worker) -> None:
    worker.must("get", "pods")
    kubeconfig = {"KUBECONFIG": str(worker.product.node.control_plane.kubeconfig)}
    output = ""

    def finds_nothing() -> bool:
        """Each check has a time limit, which a busy machine can exceed."""
        nonlocal output
        done = subprocess.run(
            [sys.executable, "-m", "connectorctl", "doctor"],
            env=os.environ | environment_without_proxies() | kubeconfig,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        return done.returncode == 0 and {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}

    try:
        eventually(finds_nothing)
    except AssertionError as error:
        raise AssertionError(output) from error


def test_every_query_of_rules_and_board_has_a_result(worker: Worker, at_work: Prometheus) -> None:
    queries = QUESTIONS | {f"record {name}": name for name in RECORDS}

    def all_answered() -> bool:
        use(worker)
        for name in [each for each, expression in queries.items() if at_work.query(expression)]:
            del queries[name]
        return not queries

    try:
        eventually(all_answered, timeout=TIMEOUT)
    except AssertionError as error:
        raise AssertionError(f"no answer to {queries}") from error
    eventually(lambda: not at_work.unhealthy_rules(), timeout=TIMEOUT)


def test_the_connector_in_use_is_the_one_that_the_board_names(worker: Worker, at_work: Prometheus) -> None:
    def board_connectors() -> set[str]:
        use(worker)
        connectors = {each["metric"].get("connector", "") for each in at_work.query("connector:requests:rate5m > 0")}
        return connectors & {f"{NAMESPACE}/{CONNECTOR}"}

    assert eventually(board_connectors, timeout=TIMEOUT)


def test_every_program_reports_its_version(at_work: Prometheus) -> None:
    def components() -> set[str]:
        return {each["metric"]["component"] for each in at_work.query("connector_build_info")}

    # Prometheus drops the metrics of a program that does not answer within a second, until it answers again.
    eventually(lambda: components() == {"proxy", "controller", "csi"}, timeout=TIMEOUT)


def test_the_picture_of_the_board_can_be_drawn_from_real_data(worker: Worker, at_work: Prometheus) -> None:
    """build/board.svg is then such a picture; docs/images/board.svg is a copy of it."""
    picture = ""

    def has_all_data() -> bool:
        nonlocal picture
        use(worker)
        picture = render_board(board(), prometheus_query(at_work.url, PICTURE_SECONDS))
        return "No data" not in picture

    eventually(has_all_data, timeout=TIMEOUT)
    (ROOT / "build" / "board.svg").write_text(picture)
