"""The blocks of the pages, unchanged, with their own real API server."""

import base64
import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from connector_store.domain.kubeconfig.volume_request import parse_volume
from connector_store.version import VERSION
from image.entry import command
from lab.control_plane import ControlPlane
from lab.controller import Controller
from lab.kubectl import Kubectl
from lab.ports import Port
from lab.process import Process, environment_without_proxies
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until
from tests.cluster.proxy.running_proxy import ROOT
from tests.journey.documents import BY_CALLER, shell_blocks

sys.path.insert(0, str(ROOT / "scripts"))
from recording import IMAGE, record, render_svg

DOCS = ROOT / "docs"
TIMEOUT = 300.0
BOUND = {"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.name": "p", "csi.storage.k8s.io/pod.uid": "u"}
ACCOUNT = {"csi.storage.k8s.io/pod.namespace": "ci", "csi.storage.k8s.io/serviceAccount.name": "pipeline"}


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A cluster with the product's objects, the Connector of the quick start, and a folder with target.kubeconfig."""

    plane: ControlPlane
    folder: Path

    def run(self, block: str, **environment: str) -> str:
        """In a shell as README sets it up; the folder has what the repository has, where a page names it."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder,
            env=self.environment() | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        paths = [str(Path(sys.executable).parent), str(self.plane.programs), os.environ["PATH"]]
        own = {"PATH": os.pathsep.join(paths), "KUBECONFIG": str(self.plane.kubeconfig), "HOME": str(self.folder)}
        return environment_without_proxies() | own


@pytest.fixture(scope="module")
def shop(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    home = tmp_path_factory.mktemp("plane")
    with ControlPlane(home, programs=cluster_programs) as plane, token_writer(plane, home):
        kubectl = plane.kubectl
        kubectl("apply", "-k", str(ROOT / "deploy"))
        kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
        (folder / "target.kubeconfig").write_bytes(plane.kubeconfig.read_bytes())
        (folder / "deploy").symlink_to(ROOT / "deploy")
        prepared = Shop(plane=plane, folder=folder)
        for block in quickstart():
            prepared.run(block)
        # `view` is not aggregated here, because that is the controller manager's work.
        kubectl("create", "clusterrole", "looks", "--verb=list", "--resource=namespaces")
        kubectl("create", "clusterrolebinding", "looks", "--clusterrole=looks", "--serviceaccount=default:deployer")
        wait_for_rbac(plane.api)
        yield prepared


@contextmanager
def token_writer(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """The part of the controller manager that writes tokens into Secrets, as the quick start asks."""
    process = Process(
        [
            plane.programs / "kube-controller-manager",
            f"--kubeconfig={plane.kubeconfig}",
            "--controllers=serviceaccount-token-controller",
            f"--service-account-private-key-file={plane.service_account_key}",
            "--leader-elect=false",
            "--secure-port=0",
        ],
        log=folder / "kube-controller-manager.log",
    )
    process.start()
    try:
        # It needs a while to start on a busy machine, and connectorctl waits for a token for a minute.
        plane.api.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "first"}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "first", "annotations": {"kubernetes.io/service-account.name": "first"}},
                "type": "kubernetes.io/service-account-token",
            },
            namespace="default",
        )
        secret = "/api/v1/namespaces/default/secrets/first"
        wait_until(lambda: plane.api.call("GET", secret).get("data"), "the first token")
        yield
    finally:
        process.kill()


def quickstart() -> list[str]:
    """Return the administrator's commands for a credential, without those that wait for a controller."""
    text = (DOCS / "quickstart.md").read_text().partition("## Administrator: lend")[2].partition("## Pipeline")[0]
    return without_waiting(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


def without_waiting(blocks: list[str]) -> list[str]:
    """Here no controller and no kubelet brings about what is waited for."""
    lines = "".join(blocks).splitlines(keepends=True)
    return ["".join(each for each in lines if not each.startswith(("kubectl wait", "kubectl get", "kubectl logs")))]


def blocks(page: str, language: str) -> list[str]:
    code_blocks: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    )
    assert code_blocks
    return code_blocks


def token(shop: Shop) -> str:
    secret = shop.plane.kubectl.json("get", "secret", "target", namespace="team-a")
    assert {"token", "ca.crt"} == set(secret["data"])
    assert secret["metadata"]["annotations"]["connectors.alauda.io/address"] == shop.plane.url
    decoded: str = secret["data"]["token"]
    return decoded


def test_the_target_lets_the_account_impersonate_that_pipeline_only(shop: Shop) -> None:
    for block in without_waiting(shell_blocks("quickstart.md", after=BY_CALLER)):
        shop.run(block)
    wait_for_rbac(shop.plane.api)
    token = shop.plane.issue_token("default", "deployer")
    path = shop.plane.write_kubeconfig("deployer.kubeconfig", {"token": token})
    # The headers that the proxy sends for a pod of the pipeline; test_permissions checks them.
    prefix, pod = "connectors:system:serviceaccount", "authentication.kubernetes.io/pod-name=write-configmap-1"
    groups = ["--as-group=connectors:system:serviceaccounts", "--as-group=connectors:system:serviceaccounts:team-a"]

    def create(name: str, account: str) -> subprocess.CompletedProcess[str]:
        who = [f"--as={prefix}:team-a:{account}", *groups, "--as-uid=u", f"--as-user-extra={pod}"]
        return Kubectl(shop.plane.kubectl.program, path).run("create", "configmap", name, *who, namespace="web")

    assert create("of-the-pipeline", "pipeline").returncode == 0
    assert "cannot impersonate" in create("of-another", "another").stderr
    connector = shop.plane.kubectl.json("get", "connector", "target-by-caller", namespace="team-a")["spec"]
    assert connector["address"] == shop.plane.url
    assert connector["impersonate"] == {"userPrefix": "connectors:", "groupPrefix": "connectors:"}


def test_a_renewed_token_changes_nothing_else(shop: Shop) -> None:
    before = token(shop)
    [block] = shell_blocks("renewing.md")
    shop.run(block)
    renewed = token(shop)
    assert renewed != before
    shop.run(block)
    assert token(shop) != renewed
    assert not (shop.folder / "token").exists()


def test_check_probes_a_target(shop: Shop) -> None:
    [block] = shell_blocks("targets.md")
    folder = shop.folder / "connectors"
    folder.mkdir(mode=0o700)
    ca = "".join(f"    {line}\n" for line in shop.plane.ca_pem.splitlines())
    (folder / "c.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: connectors.cpaas.io/bearer-token\nstringData:\n"
        f"  token: {shop.plane.issue_token('default', 'deployer')}\n  ca.crt: |\n{ca}---\n"
        "apiVersion: connectors.alauda.io/v1alpha1\nkind: Connector\nmetadata: {name: c}\nspec:\n"
        f"  connectorClassName: k8s\n  address: {shop.plane.url}\n"
        "  auth: {name: bearerTokenAuth, secretRef: {name: s}}\n"
    )
    (folder / "c.yaml").chmod(0o600)

    def has_no_findings() -> bool:
        """Return False if the target did not answer the probe within 5 s, as on a busy machine."""
        try:
            assert shop.run(block) == ""
        except AssertionError as error:
            if "did not answer" not in str(error):
                raise
            return False
        return True

    # The token is new, and the target accepts it.
    wait_until(has_no_findings, "a check without findings")


@pytest.fixture(scope="module")
def ci(shop: Shop) -> Shop:
    right, _ = shell_blocks("pipelines.md")
    shop.run(right)
    wait_for_rbac(shop.plane.api)
    return shop


def test_the_pipelines_account_may_use_the_connector(ci: Shop) -> None:
    can_i = ("auth", "can-i", "use", "connectors.connectors.alauda.io/target", "--subresource=proxy")
    caller = "system:serviceaccount:ci:pipeline"
    assert ci.plane.kubectl(*can_i, "--as", caller, namespace="team-a").strip() == "yes"


def of_gitlab() -> dict[str, Any]:
    """The pod that GitLab's runner makes of its configuration (executors/kubernetes/volumes)."""
    [text] = blocks("pipelines.md", "toml")
    [runner] = tomllib.loads(text)["runners"]
    [volume] = runner["kubernetes"]["volumes"]["csi"]
    name, _, value = runner["environment"][0].partition("=")
    csi = {"driver": volume["driver"], "readOnly": volume["read_only"], "volumeAttributes": volume["volume_attributes"]}
    return {
        "serviceAccountName": runner["kubernetes"]["service_account"],
        "containers": [
            {
                "name": "build",
                "image": "x",
                "env": [{"name": name, "value": value}],
                "volumeMounts": [{"name": volume["name"], "mountPath": volume["mount_path"]}],
            }
        ],
        "volumes": [{"name": volume["name"], "csi": csi}],
    }


def of_jenkins() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(blocks("pipelines.md", "yaml")[1])["spec"]
    return spec


def of_github() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(blocks("pipelines.md", "yaml")[2])["template"]["spec"]
    return spec


def of_argo() -> dict[str, Any]:
    """The pod that Argo Workflows makes of a template, without its own containers."""
    spec: dict[str, Any] = yaml.safe_load(blocks("pipelines.md", "yaml")[0])["spec"]
    [template] = spec["templates"]
    container = {"name": "main", **template["container"]}
    return {"serviceAccountName": spec["serviceAccountName"], "containers": [container], "volumes": spec["volumes"]}


@pytest.mark.parametrize(
    "make", [of_gitlab, of_jenkins, of_github, of_argo], ids=["GitLab", "Jenkins", "GitHub", "Argo"]
)
def test_the_pod_of_a_recipe_is_valid_for_kubelet_and_the_driver(ci: Shop, make: Any) -> None:
    spec = make()
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    done = ci.plane.kubectl.run(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", namespace="ci", stdin=yaml.safe_dump(pod)
    )
    assert (done.returncode, done.stderr) == (0, "")
    [volume] = spec["volumes"]
    attributes = volume["csi"]["volumeAttributes"]
    request = parse_volume({**BOUND, **ACCOUNT, **attributes})
    assert [str(each) for each in request.connectors] == ["team-a/target"]
    [container] = spec["containers"]
    [mount] = container["volumeMounts"]
    assert container["env"] == [{"name": "KUBECONFIG", "value": f"{mount['mountPath']}/kubeconfig"}]


@pytest.fixture(scope="module")
def published(shop: Shop) -> Shop:
    """The controller has made the proxy's CA, and named it in the status of the Connector."""
    controller = Controller(shop.plane).start()
    try:
        address = "jsonpath={.status.proxy.httpAddress.CACerts}"
        shop.plane.kubectl(
            "wait", "connector/target", "--for", address, "--timeout", "3m", namespace="team-a", timeout=TIMEOUT
        )
    finally:
        controller.close()
    return shop


def test_a_runner_outside_makes_a_kubeconfig_that_renews_itself(published: Shop, ci: Shop) -> None:
    _, block = shell_blocks("pipelines.md")
    ci.run(block)
    config = yaml.safe_load((ci.folder / "team.kubeconfig").read_text())
    plugin = config["users"][0]["user"]["exec"]
    printed = ci.run(shlex.join([plugin["command"], *plugin["args"]]))
    assert '"kind": "ExecCredential"' in printed


def test_a_proxy_of_ones_own_shows_the_ca_that_its_kubeconfig_trusts(published: Shop) -> None:
    text = (DOCS / "watching.md").read_text().partition("## In a cluster")[2]
    start, make = re.findall(r"^ {4}(connectorctl .*)$", text, re.MULTILINE)
    port, web, admin = Port(), Port(), Port()
    line = shlex.split(start.replace("8081", str(web.number)))
    line[0] = str(Path(sys.executable).with_name(line[0]))
    line[3:3] = ["--listen", f"127.0.0.1:{port.number}", "--confdir", str(published.folder / "own")]
    options = ["--set", f"connector_admin=127.0.0.1:{admin.number}", "--set", "web_open_browser=false"]
    environment = {"KUBECONFIG": str(published.plane.kubeconfig)}
    process = Process([*line, *options], log=published.folder / "own.log", environment=environment)
    process.start()
    try:
        process.wait_until(lambda: published_by(port.number) != "", timeout=TIMEOUT)
        published.run(make.replace("8080", str(port.number)))
        shown = published_by(port.number)
    finally:
        process.stop()
    config = yaml.safe_load((published.folder / "mine.kubeconfig").read_text())
    assert base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode() == shown


def is_ready(admin_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/readyz", timeout=TIMEOUT) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def published_by(port: int) -> str:
    """The CA that a proxy says it has; empty while it has none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ca.crt", timeout=TIMEOUT) as answer:
            page: str = answer.read().decode()
            return page
    except OSError:
        return ""


def test_a_password_of_mitmweb_is_written_as_a_hash(shop: Shop) -> None:
    [block] = shell_blocks("watching.md")
    shop.run(block)
    written = yaml.safe_load((shop.folder / "confdir" / "config.yaml").read_text())
    assert written["web_password"].startswith("$argon2id$")
    assert written["web_open_browser"] is False


def test_the_unit_of_systemd_starts_a_proxy(shop: Shop, tmp_path: Path) -> None:
    [unit] = blocks("outside.md", "ini")
    [line] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    port, admin = Port(), Port()
    (tmp_path / "manifests").mkdir()
    places = {
        "/opt/kubernetes-connector/bin": str(Path(sys.executable).parent),
        "/etc/kubernetes-connector": str(tmp_path / "manifests"),
        "/var/lib/kubernetes-connector": str(tmp_path / "keys"),
        "127.0.0.1:8080": f"127.0.0.1:{port.number}",
    }
    for place, here in places.items():
        assert place in line
        line = line.replace(place, here)
    process = Process(
        [*shlex.split(line), "--", "--set", f"connector_admin=127.0.0.1:{admin.number}"], log=tmp_path / "log"
    )
    process.start()
    try:
        process.wait_until((tmp_path / "keys" / "mitmproxy-ca-cert.pem").is_file, timeout=TIMEOUT)
    finally:
        process.stop()


def test_the_containers_arguments_are_those_of_the_image() -> None:
    [block] = shell_blocks("outside.md", after="## As a container")
    run, execute = [shlex.split(each) for each in block.replace("\\\n", " ").strip().splitlines()]
    image = next(index for index, each in enumerate(run) if each.startswith("localhost/"))
    line = command(run[image + 1 :], programs=Path("/p"))
    assert line is not None
    assert line[-2:] == ["--set", "connector_source=/connectors"]
    assert not any(each == "connector_source=kubernetes" for each in line)
    assert run[image].endswith(f":{VERSION}")
    assert execute[:4] == ["docker", "exec", "connector", "connectorctl"]


PRODUCT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: connectors-proxy, namespace: connectors-system}
spec:
  selector: {matchLabels: {control-plane: theirs}}
  template:
    metadata: {labels: {control-plane: theirs}}
    spec: {containers: [{name: c, image: x}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: connectors-csi, namespace: connectors-system}
spec:
  selector: {matchLabels: {control-plane: theirs}}
  template:
    metadata: {labels: {control-plane: theirs}}
    spec: {containers: [{name: c, image: x}]}
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: connectors-csi}
spec: {volumeLifecycleModes: [Persistent, Ephemeral], attachRequired: true}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: theirs}
webhooks:
- name: connectors.theirs.io
  clientConfig: {service: {name: webhook, namespace: connectors-system}}
  rules: [{apiGroups: [theirs.io], apiVersions: [v1], operations: [CREATE], resources: [connectors]}]
  admissionReviewVersions: [v1]
  sideEffects: None
---
apiVersion: v1
kind: Service
metadata: {name: c-target, namespace: team-b}
spec: {ports: [{port: 80}]}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: target, namespace: team-b}
spec: {connectorClassName: k8s, address: "https://10.0.0.1:6443", auth: {name: bearerTokenAuth, secretRef: {name: s}}}
"""
"""Objects as the other product's documents describe them, with names that the products share."""


@pytest.fixture
def theirs(private_control_plane: ControlPlane, tmp_path: Path) -> Shop:
    kubectl = private_control_plane.kubectl
    kubectl("apply", "-k", str(ROOT / "deploy/crds"))
    # A definition that is deleted before its kind is served has its finalizer for minutes.
    kinds = (each.stem for each in (ROOT / "deploy/crds").glob("*s.yaml"))
    kubectl.wait_for_crds(*(f"{kind}.connectors.alauda.io" for kind in kinds))
    for namespace in ("connectors-system", "team-b"):
        kubectl("create", "namespace", namespace)
    kubectl("create", "-f", "-", stdin=PRODUCT)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    return Shop(plane=private_control_plane, folder=tmp_path)


def test_a_migration_replaces_the_other_product_and_loses_no_connector(theirs: Shop) -> None:
    outputs = [theirs.run(block) for block in shell_blocks("migration.md")]
    kubectl = theirs.plane.kubectl
    assert outputs[1].split() == ["1", "k8s"]
    assert outputs[3].split() == ["ValidatingWebhookConfiguration/theirs"]
    assert ["team-b", "c-target"] in [each.split() for each in outputs[5].splitlines()]
    proxy = kubectl.json("get", "deployment", "connectors-proxy", namespace="connectors-system")
    assert "theirs" not in str(proxy["spec"]["selector"])
    assert kubectl.json("get", "csidriver", "connectors-csi")["spec"]["volumeLifecycleModes"] == ["Ephemeral"]
    assert kubectl.json("get", "connector", "target", namespace="team-b")["spec"]["address"] == "https://10.0.0.1:6443"


@pytest.mark.timeout(1500)
def test_a_migration_puts_connectors_back_that_went_with_their_definitions(theirs: Shop) -> None:
    keep, _, stop, _, install, _ = shell_blocks("migration.md")
    theirs.run(keep)
    kubectl = theirs.plane.kubectl
    # The API server looks for what is left of a kind once in 5 s, for a minute, before it tries again.
    kubectl("delete", "-k", str(ROOT / "deploy/crds"), timeout=480)
    theirs.run(stop)
    theirs.run(install)
    [back] = kubectl.json("get", "connectors", namespace="team-b")["items"]
    assert back["spec"]["address"] == "https://10.0.0.1:6443"


def test_the_readme_works_in_the_order_in_which_it_stands(shop: Shop, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text().partition("## Try it on a cluster")[2].partition("## Try it without")[0]
    set_up, start, use = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    here = Shop(plane=shop.plane, folder=tmp_path)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_bytes(shop.plane.kubeconfig.read_bytes())
    install, path, *commands = set_up.splitlines(keepends=True)
    here.run(f"cd {ROOT}\n{install}{path}cd - >/dev/null\n{''.join(commands)}")
    assert (tmp_path / "connectors" / "my-cluster.yaml").stat().st_mode & 0o777 == 0o600
    with started_proxy(tmp_path, start) as url:
        listed = here.run(use, CONNECTORCTL_PROXY=url)
    assert {"default", "team-a"} <= set(listed.split())


def test_the_picture_in_the_readme_shows_what_its_session_prints_today(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_bytes(shop.plane.kubeconfig.read_bytes())
    port, admin = Port(), Port()
    url = f"http://127.0.0.1:{port.number}"
    moved = ["--listen", f"127.0.0.1:{port.number}", "--", "--set", f"connector_admin=127.0.0.1:{admin.number}"]
    steps = record(tmp_path, shop.environment(), proxy_arguments=moved, proxy_url=url)
    printed = render_svg(steps).replace(f" --proxy {url}", "").replace(url, "http://127.0.0.1:8080")
    assert words(printed) == words(IMAGE.read_text())


def words(svg: str) -> list[str]:
    """Return the words of a picture without times, and without namespaces, which are others in each cluster."""
    text = " ".join(each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))  # noqa: S314 - our own picture
    return re.sub(r"\[[\d:.]+\]|\S+ +Active +\w+", "", text).split()


def test_manifests_are_written_from_the_example(shop: Shop, tmp_path: Path) -> None:
    text = (DOCS / "outside.md").read_text().partition("## With systemd")[0]
    [set_up] = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    start, use = re.findall(r"`(connectorctl (?:proxy|kubeconfig [^`]+))`\.?[,\n]", text.partition("Then start")[2])
    here = Shop(plane=shop.plane, folder=tmp_path)
    editor = tmp_path / "editor"
    editor.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n{EDIT}edit(Path(sys.argv[1]))\n")
    editor.chmod(0o755)
    values = {
        "EDITOR": str(editor),
        "ADDRESS": shop.plane.url,
        "TOKEN": shop.plane.issue_token("default", "deployer"),
        "CA": shop.plane.ca_pem,
    }
    here.run(set_up, **values)
    manifests = yaml.safe_load_all((tmp_path / "connectors" / "k8s-connector.yaml").read_text())
    assert {each["metadata"]["name"] for each in manifests} == {"k8s-secret", "k8s-connector"}
    with started_proxy(tmp_path, start) as url:
        listed = here.run(f"{use}\nkubectl --kubeconfig team.kubeconfig get namespaces", CONNECTORCTL_PROXY=url)
    assert {"default", "team-a"} <= set(listed.split())


@contextmanager
def started_proxy(folder: Path, start: str) -> Iterator[str]:
    """Run a page's command for the proxy in a folder that is also HOME, on other ports. Yields its URL."""
    port, admin = Port(), Port()
    moved = f"{start.strip()} --listen 127.0.0.1:{port.number} -- --set connector_admin=127.0.0.1:{admin.number}"
    program = str(Path(sys.executable).with_name("connectorctl"))
    process = Process(["env", "-C", folder, f"HOME={folder}", program, *shlex.split(moved)[1:]], log=folder / "log")
    process.start()
    try:
        process.wait_until(lambda: is_ready(admin.number), timeout=TIMEOUT)
        yield f"http://127.0.0.1:{port.number}"
    finally:
        process.stop()


EDIT = """
import os

def edit(path):
    text = path.read_text().replace("https://k8s.example:6443", os.environ["ADDRESS"])
    ca = "".join(f"    {line}\\n" for line in os.environ["CA"].splitlines())
    token = os.environ["TOKEN"]
    path.write_text(text.replace("REPLACE-WITH-A-TOKEN", f"{token}\\n  ca.crt: |\\n{ca}"))

"""
