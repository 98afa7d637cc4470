"""kubectl prints why a request failed: each row of docs/troubleshooting.md, without a discovery cache.

A Job's pod has no discovery cache, and client-go's discovery makes "unknown" of a Status; so the tests get
namespaces with an empty cache, with the current kubectl and with one from years ago.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import (
    TOKEN_FILE,
    KubeconfigEntry,
    KubeconfigStyle,
    build_kubeconfig,
    to_yaml,
)
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from lab.certificates import make_ca
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl, write_kubeconfig
from lab.ports import Port
from lab.process import environment_without_proxies
from lab.programs import CLIENTS, HELM, OLD_KUBECTL, ensure_programs
from lab.targets import CA, run_target, status_response
from lab.waiting import wait_until
from tests.clients.programs import PYTHON, SECOND
from tests.cluster.kube.installation import install_definitions
from tests.cluster.proxy.proxied_connector import manifests, target_token
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy
from tests.docs.pages import section

MOST = 20
"""Tunnels that one caller may have here, in place of 1000. kubectl has several at the same time."""
DENIED = "127.0.0.77"
LATE = "did not answer within 2 s"
"""Words about a target that does not answer within `connector_connect_timeout`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """`quoted` begins the row of the page; `prints` is what kubectl says of Connector `name`."""

    quoted: str
    name: str
    prints: str
    only: str = ""
    """`CONNECT` or `inside`, where the other way has no such refusal."""
    token: str | None = None
    arguments: tuple[str, ...] = ()


ROWS = [
    Row(quoted="Proxy Authentication Required: the token", name="k8s", token="a.b.c",
        prints="the token is not valid, has expired or is for another audience; get a new kubeconfig"),
    Row(quoted="Forbidden: connectors", name="absent",
        prints='connectors.connectors.alauda.io "absent" not found in namespace "team-a", or you may not use it'),
    Row(quoted="Forbidden: Connector", name="elsewhere",
        prints="Connector team-a/elsewhere is for https://h.example:6443 only; use that as the server"),
    Row(quoted="Service Unavailable: Connector", name="secretless",
        prints='Connector team-a/secretless cannot be used: secrets "secretless" not found'),
    Row(quoted="header Impersonate-User", name="k8s", arguments=("--as", "admin"),
        prints="header Impersonate-User is not passed on"),
    Row(quoted="target ... : its certificate", name="untrusted",
        prints="its certificate is not valid: unable to get local issuer certificate"),
    Row(quoted="target ... : TLS failed: ... alert certificate required", name="demanding",
        prints="Connector team-a/demanding: TLS failed: tlsv13 alert certificate required"),
    Row(quoted="target ... did not answer", name="silent", prints=LATE),
    Row(quoted="target ... did not answer", name="down", prints="connection refused"),
    Row(quoted="target ... resolves to", name="denied",
        prints=f"resolves to {DENIED}, which targets-deny covers; add it to targets-allow if it is meant"),
    Row(quoted="the target refused the credential", name="expired",
        prints="the target refused the credential of Connector team-a/expired; renew Secret expired"),
    Row(quoted="Too Many Requests", name="busy", prints=f"more than {MOST} connections of one caller", only="CONNECT"),
]  # fmt: skip
LAST_LINES = {"k8s", "untrusted", "demanding", "down", "expired"}
"""Connectors of rows whose reason is in kubectl's last line, also without a discovery cache."""
ELSEWHERE = {
    "Proxy Authentication Required: ...": "kubectl sends its credentials always: test_clients.py",
    "Service Unavailable: the proxy has not read": "below",
    "Service Unavailable: the caller": "below",
    "Error from server (Forbidden)": "said by the target: test_kubectl.py",
    "... is forbidden": "said by the target",
    "The connection to the server": "said by kubectl, of a proxy that does not run",
    'Connector "y/x" does not allow': "test_permissions.py",
    "you are locked out": "kube/test_access_requests.py",
    "allows 30 requests": "kube/test_limits.py",
    "dial tcp": "said by the system, of a proxy that is not there",
    "x509": "said by kubectl",
    "websocket: close 1001": "test_draining.py",
}


@pytest.fixture(scope="module", params=["1.37", "1.28"])
def program(request: pytest.FixtureRequest, control_plane: ControlPlane) -> Path:
    """kubectl of that release."""
    if request.param == "1.37":
        return control_plane.kubectl.program
    return ensure_programs(OLD_KUBECTL, ("kubectl",)) / "kubectl"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A proxy on a folder, and what leads to each of its Connectors that is not `plane`."""

    plane: ControlPlane
    proxy: RunningProxy
    addresses: Mapping[str, str]

    def kubectl(self, program: Path, row: Row, folder: Path, *, rotating: bool) -> Kubectl:
        """Nothing is discovered yet: the cache lies in `folder`."""
        raw, _ = manifests(self.plane, "", name=row.name)
        raw["spec"]["address"] = self.addresses.get(row.name, self.plane.url)
        connector = parse_connector(raw)
        assert isinstance(connector, Connector)
        token = self.proxy.token(connector.key) if row.token is None else row.token
        proxy = f"http://127.0.0.1:{self.proxy.port}"
        entry = KubeconfigEntry(
            key=connector.key, address=connector.address, proxy=proxy, ca=self.proxy.ca_pem(), token=token
        )
        path = folder / "kubeconfig"
        path.write_text(to_yaml(build_kubeconfig([entry], KubeconfigStyle(rotating=rotating))))
        (folder / TOKEN_FILE).write_text(token)
        return Kubectl(program, path)


@pytest.fixture(scope="module")
def scene(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    options = {
        "connector_connect_timeout": "2",
        # The tunnels of `busy` stay open until kubectl has started.
        "connector_client_timeout": "300",
        "connector_max_connections": str(MOST),
        "connector_targets_deny": DENIED,
    }
    home = tmp_path_factory.mktemp("reasons")
    proxy = RunningProxy(home, options=options)
    token = target_token(control_plane, control_plane.create_namespace(home.name))
    with ExitStack() as stack:
        silent = stack.enter_context(run_target())
        silent.silent = True
        down = Port()
        stack.callback(down.release)
        refusing = stack.enter_context(run_target(lambda _: status_response(401)))
        demanding = stack.enter_context(run_target())
        demanding.require_client_certificates()
        addresses = {
            "silent": silent.address,
            "demanding": demanding.address,
            "down": f"https://127.0.0.1:{down.number}",
            "denied": f"https://{DENIED}:6443",
            "expired": refusing.address,
        }
        cas = {"untrusted": make_ca("another CA").pem.decode()} | dict.fromkeys(
            ("expired", "demanding"), CA.pem.decode()
        )
        for name in ("k8s", "busy", "secretless", "untrusted", "elsewhere", *addresses):
            connector, secret = manifests(control_plane, token, name=name)
            connector["spec"]["address"] = addresses.get(name, control_plane.url)
            secret["stringData"]["ca.crt"] = cas.get(name, control_plane.ca_pem)
            if name == "elsewhere":
                connector["spec"]["address"] = "https://h.example:6443"
            proxy.write(f"{name}.yaml", connector, *([] if name == "secretless" else [secret]))
        stack.enter_context(proxy)
        yield Scene(plane=control_plane, proxy=proxy, addresses=addresses)


@pytest.mark.parametrize(
    ("row", "way"),
    [
        pytest.param(row, way, id=f"{row.prints[:40]}-{way}")
        for row in ROWS
        for way in ("CONNECT", "inside")
        if row.only in ("", way)
    ],
)
def test_kubectl_prints_why(scene: Scene, program: Path, row: Row, way: str, tmp_path: Path) -> None:
    kubectl = scene.kubectl(program, row, tmp_path, rotating=way == "inside")
    with ExitStack() as stack:
        if row.name == "busy":
            for _ in range(MOST):
                stack.enter_context(_open(scene, ObjectKey("team-a", row.name)))
        done = run_beside_load(lambda: kubectl.run("get", "namespaces", *row.arguments), row)
    assert done.returncode != 0
    assert row.prints in done.stderr
    if row.name in LAST_LINES and (row.arguments or row.token is None):
        assert row.prints.split(":")[0] in done.stderr.splitlines()[-1]


def run_beside_load(run: Callable[[], subprocess.CompletedProcess[str]], row: Row) -> subprocess.CompletedProcess[str]:
    """Run a command again while a busy machine is too slow for the short time limit of the proxy's connections."""

    def result() -> subprocess.CompletedProcess[str] | None:
        done = run()
        is_too_slow = LATE in done.stdout + done.stderr and row.name != "silent"
        return None if is_too_slow else done

    return wait_until(result, f"kubectl without: {LATE}")


def test_kubectl_prints_that_the_proxy_has_not_read_its_connectors(scene: Scene, program: Path, tmp_path: Path) -> None:
    away = write_kubeconfig(
        tmp_path / "away", server="https://127.0.0.1:1", ca_pem=scene.plane.ca_pem, user={"token": "a"}
    )
    starting = RunningProxy(
        tmp_path / "proxy", options={"connector_source": "kubernetes"}, environment={"KUBECONFIG": str(away)}
    )
    try:
        starting.start()
        row = Row(quoted="", name="k8s", prints="")
        done = replace(scene, proxy=starting).kubectl(program, row, tmp_path, rotating=False).run("get", "namespaces")
    finally:
        starting.process.stop()
    assert "the proxy has not read all Connectors yet; try again in a moment" in done.stderr


def test_kubectl_prints_that_its_caller_cannot_be_checked(scene: Scene, program: Path, tmp_path: Path) -> None:
    """The proxy's ServiceAccount may read everything, and ask nothing of callers."""
    plane, namespace = (
        scene.plane,
        scene.plane.create_namespace(f"unchecked-{tmp_path.name[-12:].strip('-_').replace('_', '-')}"),
    )
    install_definitions(plane)
    plane.create_service_account(namespace, "reader")
    plane.kubectl("create", "clusterrole", namespace, "--verb=get,list,watch", "--resource=*.*")
    plane.kubectl(
        "create", "clusterrolebinding", namespace, f"--clusterrole={namespace}",
        f"--serviceaccount={namespace}:reader",
    )  # fmt: skip
    token = plane.issue_token(namespace, "reader")
    reader = write_kubeconfig(tmp_path / "reader", server=plane.url, ca_pem=plane.ca_pem, user={"token": token})
    blind = RunningProxy(
        tmp_path / "proxy", options={"connector_source": "kubernetes"}, environment={"KUBECONFIG": str(reader)}
    )
    with blind:
        row = Row(quoted="", name="k8s", prints="")
        done = replace(scene, proxy=blind).kubectl(program, row, tmp_path, rotating=False).run("get", "namespaces")
    assert "the caller cannot be checked at the moment; try again" in done.stderr


OTHERS = [*PYTHON, "client-go", "helm"]


# Python's clients do not read a token file again; docs/clients.md gives them the other kubeconfig.
@pytest.mark.parametrize(
    ("client", "way"),
    [(client, "CONNECT") for client in OTHERS] + [(client, "inside") for client in OTHERS if client not in PYTHON],
)
def test_other_clients_print_why(scene: Scene, client: str, way: str, tmp_path: Path) -> None:
    """Test the most frequent failure: the target's token has expired."""
    row = Row(quoted="", name="expired", prints="the target refused the credential of Connector team-a/expired; renew")
    kubectl = scene.kubectl(Path(), row, tmp_path, rotating=way == "inside")
    command = {
        "client-go": ["client", "use", "default", "any", SECOND],
        "helm": ["helm", "list"],
    }.get(client, [sys.executable, *PYTHON.get(client, []), "use", "default", "any", SECOND])
    if client not in PYTHON:
        module, program = (HELM, "helm") if client == "helm" else (CLIENTS, "client")
        command[0] = str(ensure_programs(module, [program]) / program)
    environment = environment_without_proxies() | {"KUBECONFIG": str(kubectl.kubeconfig), "HOME": str(tmp_path)}
    done = run_beside_load(
        lambda: subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_TIMEOUT
        ),
        row,
    )
    assert done.returncode != 0
    assert row.prints in done.stdout + done.stderr


def test_each_row_of_the_page_has_its_test() -> None:
    page = section("../troubleshooting.md", "kubectl prints")
    quoted = [line.removeprefix("| `") for line in page.splitlines() if line.startswith("| `")]
    tested = {row.quoted for row in ROWS} | set(ELSEWHERE)
    assert [each for each in quoted if not each.startswith(tuple(tested))] == []
    assert [each for each in tested if not any(line.startswith(each) for line in quoted)] == []


@contextmanager
def _open(scene: Scene, key: ObjectKey) -> Iterator[None]:
    """A tunnel in which nothing is said."""
    authority = scene.plane.url.removeprefix("https://")
    with socket.create_connection(("127.0.0.1", scene.proxy.port), timeout=WAIT_TIMEOUT) as client:
        client.sendall(scene.proxy.connect_request(key, authority))
        assert client.recv(1024).startswith(b"HTTP/1.1 200 ")
        yield
