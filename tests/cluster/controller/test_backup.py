"""docs/backup.md, followed on a real API server: everything is gone, and comes back with the same CA."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.certificates import KeyPair, make_ca
from lab.control_plane import ControlPlane
from lab.controller import SYSTEM_NAMESPACE, Controller
from lab.kubectl import Kubectl, write_kubeconfig
from lab.process import environment_without_proxies
from lab.waiting import TIMEOUT, wait_until
from tests.cluster.kube.installation import AUDIENCE, SYSTEM, account_subject, bind, connector, grant_use, secret
from tests.cluster.kube.served_connector import OPTIONS
from tests.cluster.proxy.running_proxy import RunningProxy
from tests.journey.documents import shell_blocks

ROOT = Path(__file__).parents[3]
CA_NAME, TEAM = "connectors-proxy-ca", "team-a"
[BACKUP] = shell_blocks("backup.md", before="## Restore on")
[DEFINITIONS, CA, CONNECTORS, PRODUCT] = shell_blocks("backup.md", after="## Restore on")
UNUSABLE = "connector_ca_secret_unusable"


class Site:
    """A cluster that can lose its data, a proxy at an address that stays, and a caller whose kubeconfig stays."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane, self.folder = plane, folder
        (folder / "deploy").symlink_to(ROOT / "deploy")
        (folder / "nothing").mkdir()
        self._proxy_kubeconfig = folder / "proxy.kubeconfig"
        options, environment = OPTIONS | {"connector_ca_secret": CA_NAME}, {"KUBECONFIG": str(self._proxy_kubeconfig)}
        self.proxy = RunningProxy(folder / "home", options=options, environment=environment)
        self._token_file = folder / "token"
        self._caller: Kubectl | None = None

    def run(self, *blocks: str) -> None:
        path = f"{self.plane.programs}:/usr/bin:/bin"
        environment = environment_without_proxies() | {"PATH": path, "KUBECONFIG": str(self.plane.kubeconfig)}
        command = ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, f"{blocks}\n{done.stdout}{done.stderr}"

    def lose_everything(self) -> None:
        self.plane.stop()
        self.plane.etcd.restore(self.folder / "nothing")
        self.plane.start_apiserver()

    def install_definitions(self, *blocks: str) -> None:
        """Run the page's block, which waits until the API server serves the kinds, and then these."""
        self.run(DEFINITIONS, *blocks)

    def create_team(self) -> None:
        self.plane.create_namespace(TEAM)
        self.plane.create_service_account(TEAM, "target")
        bind(self.plane, TEAM, "cluster-admin", subject=account_subject(TEAM, "target"), name="target")
        grant_use(self.plane, TEAM, subject=account_subject(TEAM))

    def create_connector(self) -> None:
        self.plane.api.apply(connector("k8s", address=self.plane.url), namespace=TEAM)
        self.put_credential()

    def put_credential(self) -> None:
        """A token of the target, which is this cluster itself and forgets its tokens with its data."""
        token = self.plane.issue_token(TEAM, "target")
        self.plane.api.apply(secret("k8s-secret", token=token, ca_crt=self.plane.ca_pem), namespace=TEAM)

    def published(self) -> str:
        objects = self.plane.kubectl.json("get", "configmaps", namespace=SYSTEM_NAMESPACE)["items"]
        return "".join(each["data"]["ca.crt"] for each in objects if each["metadata"]["name"] == CA_NAME)

    def start(self, stack: ExitStack) -> Controller:
        """Start the controller and the proxy, and return when a CA is published."""
        controller = self.start_controller(stack)
        token = self.plane.issue_token(SYSTEM, "connectors-proxy")
        write_kubeconfig(self._proxy_kubeconfig, server=self.plane.url, ca_pem=self.plane.ca_pem, user={"token": token})
        self.proxy.start()
        stack.callback(self.proxy.process.stop)
        return controller

    def start_controller(self, stack: ExitStack) -> Controller:
        controller = Controller(self.plane).start()
        stack.callback(controller.close)
        wait_until(self.published, "the published CA")
        return controller

    def caller(self) -> Kubectl:
        """A caller outside of the cluster. Its kubeconfig is written once, and its token is always fresh."""
        self._token_file.write_text(self.plane.issue_token(TEAM, "default", audiences=[AUDIENCE]))
        assert self._caller is not None
        return self._caller

    def write_kubeconfig(self, ca: str) -> None:
        path = write_kubeconfig(
            self.folder / "caller.kubeconfig",
            server=f"https://127.0.0.1:{self.proxy.port}/connectors/{TEAM}/k8s",
            ca_pem=ca,
            user={"tokenFile": str(self._token_file)},
        )
        self._caller = Kubectl(self.plane.kubectl.program, path)

    def wait_until_served(self) -> None:
        caller = self.caller()
        wait_until(lambda: caller.run("auth", "whoami").returncode == 0, "the caller's request")


@pytest.fixture
def site(private_control_plane: ControlPlane, tmp_path: Path) -> Iterator[Site]:
    prepared = Site(private_control_plane, tmp_path)
    yield prepared
    prepared.proxy.__exit__(None, None, None)


@pytest.mark.timeout(1800)  # it starts four API servers, one after the other
def test_a_restored_cluster_has_the_same_ca_and_a_kubeconfig_from_before_works(site: Site) -> None:
    site.install_definitions("kubectl apply -k deploy/rbac", "kubectl apply -f deploy/system/controller-rbac.yaml")
    site.create_team()
    site.create_connector()
    with ExitStack() as stack:
        site.start_controller(stack)
        published = site.published()
        site.write_kubeconfig(published)
        site.run(BACKUP)

    restore(site)
    with ExitStack() as stack:
        controller = site.start(stack)
        site.wait_until_served()
        assert site.published() == published
        lose_the_secret_alone(site, controller)
        assert site.published() == published

    # The same with a CA that cert-manager keeps.
    ca = make_ca()
    replace_by_tls_secret(site, ca)
    site.run("rm -r backup", BACKUP)
    restore(site)
    with ExitStack() as stack:
        site.start(stack)
        assert site.published() == ca.pem.decode()
        site.wait_until_served()


def restore(site: Site) -> None:
    """Lose everything, and follow the page. The target is this cluster, which forgot its tokens with its data."""
    site.lose_everything()
    assert "connectors" not in site.plane.kubectl("api-resources", "--api-group=connectors.alauda.io")
    site.install_definitions(CA)
    site.create_team()
    site.run(CONNECTORS, PRODUCT)
    assert site.plane.kubectl.json("get", "secret", "k8s-secret", namespace=TEAM)["data"].keys() == {"token", "ca.crt"}
    site.put_credential()


def replace_by_tls_secret(site: Site, ca: KeyPair) -> None:
    for kind in ("secret", "configmap"):
        site.plane.kubectl("delete", kind, CA_NAME, namespace=SYSTEM_NAMESPACE)
    content = {"tls_crt": ca.pem.decode(), "tls_key": ca.key_pem.decode(), "ca_crt": ca.pem.decode()}
    site.plane.api.apply(secret(CA_NAME, kind="kubernetes.io/tls", **content), namespace=SYSTEM_NAMESPACE)
    site.write_kubeconfig(ca.pem.decode())


def lose_the_secret_alone(site: Site, controller: Controller) -> None:
    site.plane.kubectl("delete", "secret", CA_NAME, namespace=SYSTEM_NAMESPACE)
    wait_until(lambda: controller.read_metric(UNUSABLE) == 1, "the metric of the alert")
    assert "secrets" not in site.plane.kubectl("get", "secrets", "-o", "name", namespace=SYSTEM_NAMESPACE)
    site.wait_until_served()
    site.run(CA)
    wait_until(lambda: controller.read_metric(UNUSABLE) == 0, "the restored Secret")
    site.wait_until_served()
