"""docs/upgrade.md: from the release before this one to this one, program by program, and back, while it is in use.

Then the same with Helm, from a former chart. scripts/former has built what both begin with. Tests run in order, and
each begins where the one before ended.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.version import VERSION
from lab.helm import Helm
from lab.node.csi_driver import eventually
from lab.programs import HELM, ensure_programs
from tests.journey.product import ROOT, SYSTEM, Product
from tests.journey.worker import CONNECTOR, NAMESPACE, WORKER, Worker, connector, worker_pod
from tests.journey.worker_commands import WorkerCommands

FORMER = ROOT / "build" / "former"
CSI = "connectors-csi"
CONTROLLER = ("Deployment", SYSTEM, "connectors-controller")
PROXY = ("Deployment", SYSTEM, "connectors-proxy")
DRIVER = ("DaemonSet", CSI, CSI)
DOORS = (CONTROLLER, PROXY, DRIVER)
NEW, OLD = ROOT / "deploy", FORMER / "deploy"
STAGES = {
    "the controller alone is new": (NEW, CONTROLLER),
    "proxies alone are old": (NEW, DRIVER),
    "all is new": (NEW, PROXY),
    "the driver alone is old again": (OLD, DRIVER),
    "the controller alone is new again": (OLD, PROXY),
    "all is old again": (OLD, CONTROLLER),
}
ROUNDS = 3
"""Maximum number of upgrades of each kind. On a busy machine, kube-proxy may see the end of a proxy too late."""
ASK = f"kubectl get --raw /api/v1/namespaces/{NAMESPACE}/pods/{WORKER}"
FORMER_CHART = ROOT / "build" / "former-chart"
MANY = [f"many-{number}" for number in range(50)]
RETRIES = 5
ISSUER = "https://issuer.example.com"
ISSUERS = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AuthenticationConfiguration",
    "jwt": [
        {
            "issuer": {"url": ISSUER, "audiences": ["connectors"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": "ci:"}},
        }
    ],
}
TAKE_OVER = ("--take-ownership", "--force-conflicts")
ROLLED = 600.0
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

    def remove_new_objects(self) -> None:
        """Delete the objects that only the new release has. Going back leaves them, and a chart does not take them."""
        former = {key_of(each) for each in self._manifests(OLD)}
        added = [each for each in self._manifests(NEW) if key_of(each) not in former]
        self._product.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(added))

    def _manifests(self, folder: Path) -> list[dict[str, Any]]:
        return [each for each in yaml.safe_load_all(self._product.kubectl("kustomize", str(folder))) if each]

    def change(self, folder: Path, door: tuple[str, str, str]) -> None:
        objects = self._manifests(folder)
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
            *("rollout", "status", f"{kind}/{name}", f"--timeout={ROLLED:.0f}s"),
            namespace=namespace,
            timeout=ROLLED + 20,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self._product.state()}"


class Release:
    """The release of Helm, by the chart of a tree and its image."""

    def __init__(self, product: Product, home: Path) -> None:
        self._helm = Helm(ensure_programs(HELM, ["helm"]) / "helm", product.kubectl.kubeconfig, home)

    def apply(self, tree: Path, tag: str, *options: str, only: list[str]) -> None:
        values: Mapping[str, Any] = {
            "image": {"repository": "localhost/kubernetes-connector", "tag": tag},
            "namespaces": {"only": only},
        }
        chart = tree / "charts" / "kubernetes-connector"
        command = ("upgrade", "connector", str(chart), "--install", "--namespace", SYSTEM, "--wait", "--timeout=10m")
        self._helm(*command, *options, values=values)


class ManyClients:
    """A client in the worker that uses each of many Connectors in turn, and tries again as clients do."""

    _LOST = Path("/tmp/lost")
    _SERVED = Path("/tmp/served")
    _LOOP = f"""
    : >{_LOST}; : >{_SERVED}
    for name in {" ".join(MANY)}; do busybox sed "s/c-{CONNECTOR}[.]/c-$name./" $KUBECONFIG >/tmp/$name; done
    while true; do for name in {" ".join(MANY)}; do
      sleep 0.1
      tries=0; until {ASK} --kubeconfig /tmp/$name >/dev/null 2>/tmp/$name.error; do
        tries=$((tries + 1)); [ $tries -lt {RETRIES} ] || {{ cat /tmp/$name.error >>{_LOST}; continue 2; }}
        sleep 1
      done
      echo $name >>{_SERVED}
    done; done
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        plane, token = worker.product.node.control_plane, worker.token
        objects = [each for name in MANY for each in connector(name, plane, token)]
        worker.product.api.apply(*objects, namespace=NAMESPACE)
        self.command = worker.product.kubectl.command("exec", WORKER, "--", "sh", "-c", self._LOOP, namespace=NAMESPACE)

    def wait_for_a_round(self) -> None:
        """Wait until each Connector has served once more."""
        begin = self._count()
        eventually(lambda: self._count() >= begin + len(MANY), timeout=ROLLED)

    def take_lost(self) -> str:
        """Return the errors of uses that failed at all tries, and forget them."""
        return self._worker.shell(f"cat {self._LOST}; : >{self._LOST}")

    def _count(self) -> int:
        """Return how many uses succeeded. The file is not there until the loop has begun."""
        return int(self._worker.shell(f"[ ! -e {self._SERVED} ] && echo 0 || busybox wc -l <{self._SERVED}"))


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
    """The worker asks once a second; the file inside of it has what went wrong."""
    failures = Path("/tmp/failures")
    loop = f": >{failures}; while sleep 1; do {ASK} >/dev/null 2>/tmp/error || cat /tmp/error >>{failures}; done"
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


@pytest.mark.parametrize(("folder", "door"), STAGES.values(), ids=STAGES)
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
    # Until kube-proxy has seen a rollout, a Service leads to a proxy that has ended.
    answer = eventually(lambda: product.kubectl("exec", name, "--", *ASK.split(), namespace=NAMESPACE))
    assert f'"name":"{WORKER}"' in answer
    eventually(lambda: WORKER in worker.run("get", "pods", "-o", "name").stdout)
    status = pod_of(worker)
    assert status["metadata"]["uid"] == before
    assert status["status"]["containerStatuses"][0]["restartCount"] == 0
    if folder == NEW and door == PROXY:
        assert installation.images() == {product_image}
        assert product_image.endswith(f":{VERSION}")


@pytest.mark.timeout(3600)
def test_no_request_failed_meanwhile(
    product: Product, installation: Installation, worker: Worker, in_use: Path
) -> None:
    """Repeat all stages until no request fails."""
    failures = [worker.shell(f"cat {in_use}")]
    while failures[-1] and len(failures) < ROUNDS:
        worker.shell(f": >{in_use}")
        for folder, door in STAGES.values():
            installation.change(folder, door)
        failures.append(worker.shell(f"cat {in_use}"))
    assert failures[-1] == "", f"{failures}\n{product.state()}"


def test_live_connections_closed_with_their_proxy_and_can_be_restarted(worker: Worker, streams: WorkerCommands) -> None:
    assert streams.wait_until_finished()
    streams.start()


def test_connectors_and_their_services_survived_the_upgrade(product: Product, worker: Worker) -> None:
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    eventually(lambda: product.kubectl("get", "connector", "here", "-o", ready, namespace=NAMESPACE) == "True")
    service = product.kubectl.json("get", "service", "c-here", namespace=NAMESPACE)
    assert service["spec"]["type"] == "ExternalName"


@pytest.fixture(scope="module")
def release(
    product: Product, installation: Installation, worker: Worker, tmp_path_factory: pytest.TempPathFactory
) -> Release:
    """Release of the former chart for the worker's namespace and one that is deleted, with issuers of kubectl."""
    product.node.import_image(FORMER_CHART / "image.tar")
    product.kubectl("create", "namespace", "team-gone")
    # Server-side apply keeps what kubectl wrote, and the former release has other fields in these.
    selector = "app.kubernetes.io/part-of=kubernetes-connector"
    for namespace in (SYSTEM, CSI):
        product.kubectl("delete", "deployments,daemonsets", "--selector", selector, namespace=namespace)
        product.kubectl("delete", "pdb", "--all", namespace=namespace)
    installation.remove_new_objects()
    release = Release(product, tmp_path_factory.mktemp("helm"))
    release.apply(FORMER_CHART, former_tag(), *TAKE_OVER, only=[NAMESPACE, "team-gone"])
    product.kubectl("delete", "namespace", "team-gone", timeout=ROLLED)
    write_issuers(product)
    return release


@pytest.fixture(scope="module")
def clients(release: Release, worker: Worker) -> Iterator[ManyClients]:
    clients = ManyClients(worker)
    with subprocess.Popen(clients.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        clients.wait_for_a_round()
        yield clients
        running.kill()


def former_tag() -> str:
    return (FORMER_CHART / "commit").read_text().strip()


def write_issuers(product: Product) -> None:
    patch = json.dumps({"data": {"authentication.yaml": yaml.safe_dump(ISSUERS)}})
    command = ("patch", "configmap", "connectors-authentication", "--type=merge", f"--patch={patch}")
    product.kubectl(*command, namespace=SYSTEM)


def issuers_of(product: Product) -> str:
    return product.kubectl("get", "configmap", "connectors-authentication", "-o", "yaml", namespace=SYSTEM)


def uids(product: Product) -> set[str]:
    """Return the UIDs of all definitions of the product, and of the Connectors."""
    definitions = product.kubectl.json("get", "crds")["items"]
    ours = [each for each in definitions if each["spec"]["group"] == "connectors.alauda.io"]
    connectors = product.kubectl.json("get", "connectors", namespace=NAMESPACE)["items"]
    return {each["metadata"]["uid"] for each in (*ours, *connectors)}


@pytest.mark.timeout(3600)
def test_helm_upgrades_a_former_chart_and_goes_back_while_50_connectors_are_in_use(
    product: Product, product_image: str, installation: Installation, release: Release, clients: ManyClients
) -> None:
    before, lost = uids(product), list[str]()
    while len(lost) < ROUNDS and "" not in lost:
        release.apply(ROOT, VERSION, only=[NAMESPACE, "team-gone"])
        assert installation.images() == {product_image}
        clients.wait_for_a_round()
        assert ISSUER in issuers_of(product)
        upgraded = uids(product)
        assert before < upgraded
        # The former chart sets the issuers to none.
        release.apply(FORMER_CHART, former_tag(), "--force-conflicts", only=[NAMESPACE])
        write_issuers(product)
        clients.wait_for_a_round()
        assert uids(product) == upgraded
        lost.append(clients.take_lost())
    assert lost[-1] == "", f"{lost}\n{product.state()}"
