"""docs/upgrade.md: from the release before this one to this one, program by program, and back, while it is in use.

scripts/former has built the former release. Stages run in order, and each begins where the one before ended.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.version import VERSION
from lab.node.csi_driver import eventually
from tests.journey.product import ROOT, SYSTEM, Product
from tests.journey.worker import NAMESPACE, WORKER, Worker, worker_pod
from tests.journey.worker_commands import WorkerCommands

FORMER = ROOT / "build" / "former"
CSI = "connectors-csi"
CONTROLLER = ("Deployment", SYSTEM, "connectors-controller")
PROXY = ("Deployment", SYSTEM, "connectors-proxy")
DRIVER = ("DaemonSet", CSI, CSI)
DOORS = (CONTROLLER, PROXY, DRIVER)
NEW, OLD = ROOT / "deploy", FORMER / "deploy"
STAGES = [
    pytest.param(NEW, CONTROLLER, id="the controller alone is new"),
    pytest.param(NEW, DRIVER, id="proxies alone are old"),
    pytest.param(NEW, PROXY, id="all is new"),
    pytest.param(OLD, DRIVER, id="the driver alone is old again"),
    pytest.param(OLD, PROXY, id="the controller alone is new again"),
    pytest.param(OLD, CONTROLLER, id="all is old again"),
]
ASK = f"kubectl get --raw /api/v1/namespaces/{NAMESPACE}/pods/{WORKER}"
ROLLED = 300.0
"""Seconds for one program on a busy machine."""


class Installation:
    """The manifests of both releases; `change` applies one of them to one program, after all other objects."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._at: Path | None = None

    def install(self, folder: Path) -> None:
        self._product.kubectl("apply", "-k", str(folder))
        for door in DOORS:
            self._wait(door)
        self._at = folder

    def change(self, folder: Path, door: tuple[str, str, str]) -> None:
        objects = [each for each in yaml.safe_load_all(self._product.kubectl("kustomize", str(folder))) if each]
        if folder != self._at:
            self._apply([each for each in objects if key_of(each) not in DOORS])
            self._at = folder
        self._apply([each for each in objects if key_of(each) == door])
        self._wait(door)

    def images(self) -> set[str]:
        pods = [self._product.kubectl.json("get", "pods", namespace=each)["items"] for each in (SYSTEM, CSI)]
        running = [each for part in pods for each in part if "deletionTimestamp" not in each["metadata"]]
        return {each["spec"]["containers"][0]["image"] for each in running}

    def _apply(self, objects: list[dict[str, Any]]) -> None:
        self._product.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def _wait(self, door: tuple[str, str, str]) -> None:
        kind, namespace, name = door
        done = self._product.kubectl.run(
            *("rollout", "status", f"{kind}/{name}", f"--timeout={ROLLED:.0f}s"), namespace=namespace, timeout=ROLLED
        )
        assert done.returncode == 0, f"{done.stderr}\n{self._product.state()}"


def key_of(obj: dict[str, Any]) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


@pytest.fixture(scope="module")
def installation(product: Product) -> Iterator[Installation]:
    archive = FORMER / "image.tar"
    if not archive.exists():
        pytest.fail(f"no {archive}; run: scripts/former", pytrace=False)
    product.node.import_image(archive)
    installed = Installation(product)
    installed.install(OLD)
    yield installed
    product.kubectl("delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="module")
def worker(product: Product, installation: Installation) -> Worker:
    return Worker(product)


@pytest.fixture(scope="module")
def in_use(worker: Worker) -> Iterator[Path]:
    """The worker asks again and again; the file inside of it has what went wrong."""
    failures = Path("/tmp/failures")
    loop = f": >{failures}; while sleep 0.3; do {ASK} >/dev/null 2>/tmp/error || cat /tmp/error >>{failures}; done"
    command = worker.product.kubectl.command("exec", WORKER, "--", "sh", "-c", loop, namespace=NAMESPACE)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        yield failures
        running.kill()


@pytest.fixture(scope="module")
def streams(worker: Worker) -> WorkerCommands:
    started = WorkerCommands(worker)
    started.start()
    return started


def pod_of(worker: Worker) -> dict[str, Any]:
    pod: dict[str, Any] = worker.product.kubectl.json("get", "pod", WORKER, namespace=NAMESPACE)
    return pod


@pytest.mark.parametrize(("folder", "door"), STAGES)
def test_every_mix_of_versions_serves_old_and_new_pods(
    product: Product,
    product_image: str,
    installation: Installation,
    worker: Worker,
    in_use: Path,
    streams: WorkerCommands,
    folder: Path,
    door: tuple[str, str, str],
) -> None:
    before = pod_of(worker)["metadata"]["uid"]
    installation.change(folder, door)
    if door != PROXY and folder == NEW:
        assert streams.finished() == [], "only a proxy that ends may end streams"
    name = f"pod-{'new' if folder == NEW else 'old'}-{door[2].removeprefix('connectors-')}"
    product.api.apply(worker_pod(product.node.box_image, name), namespace=NAMESPACE)
    product.node.wait_for_pod(name, NAMESPACE)
    answer = product.kubectl("exec", name, "--", *ASK.split(), namespace=NAMESPACE)
    assert f'"name":"{WORKER}"' in answer
    assert WORKER in worker.must("get", "pods", "-o", "name")
    status = pod_of(worker)
    assert status["metadata"]["uid"] == before
    assert status["status"]["containerStatuses"][0]["restartCount"] == 0
    if folder == NEW and door == PROXY:
        assert installation.images() == {product_image}
        assert product_image.endswith(f":{VERSION}")


def test_no_request_failed_meanwhile(product: Product, worker: Worker, in_use: Path) -> None:
    assert worker.shell(f"cat {in_use}") == "", product.state()


def test_live_connections_closed_with_their_proxy_and_can_be_restarted(worker: Worker, streams: WorkerCommands) -> None:
    assert streams.wait_until_finished()
    streams.start()


def test_connectors_and_their_services_survived_the_upgrade(product: Product, worker: Worker) -> None:
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    eventually(lambda: product.kubectl("get", "connector", "here", "-o", ready, namespace=NAMESPACE) == "True")
    service = product.kubectl.json("get", "service", "c-here", namespace=NAMESPACE)
    assert service["spec"]["type"] == "ExternalName"
