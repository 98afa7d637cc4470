"""Clients of many languages run a command in a real pod: by direct access, and through the proxy as a proxy.

Each runs as in a pod with a volume; the target is the node's own cluster.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.go_modules import ProgramsMissingError
from lab.node.node import Node
from lab.process import environment_without_proxies, tie_to_parent
from lab.waiting import wait_until
from tests.clients.pod_view import (
    DIRECT,
    IN_CLUSTER,
    NAMESPACE,
    PROXY_OPTIONS,
    VIA_CODE,
    VIA_ENVIRONMENT,
    VIA_PROXY_URL,
    WITH_PLUGIN,
    AccessMethod,
    PodView,
    create_connector,
    playbook,
    programs,
    variables,
)
from tests.cluster.kube.installation import AUDIENCE, install
from tests.cluster.kube.served_connector import cluster_proxy
from tests.cluster.proxy.running_proxy import RunningProxy

POD = "box"
NUMBERS = 20_000
PAYLOAD = "".join(f"{number}\n" for number in range(NUMBERS)).encode()
"""More than one message, and text, as some of them know no bytes."""
CODE = 7
ECHO = ["sh", "-c", f"head -c {len(PAYLOAD)}; echo warned >&2; exit {CODE}"]
SHOW = ["sh", "-c", f"busybox seq 0 {NUMBERS - 1}; echo warned >&2; exit {CODE}"]
"""The same without stdin."""
WAYS: Mapping[str, tuple[AccessMethod, ...]] = {
    "client-go by WebSocket": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "client-go by SPDY": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kube-rs": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "fabric8": (IN_CLUSTER, WITH_PLUGIN, VIA_ENVIRONMENT),
    "official Java": (IN_CLUSTER, DIRECT, VIA_CODE),
    "client-node": (IN_CLUSTER, WITH_PLUGIN, VIA_PROXY_URL),
    "kubernetes": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kubernetes-aio": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kubernetes-asyncio": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kr8s": (IN_CLUSTER, WITH_PLUGIN, VIA_PROXY_URL),
    "ansible": (IN_CLUSTER, DIRECT, VIA_CODE),
}
WITHOUT_STDIN = {"kr8s", "ansible"}
ASK_ENVIRONMENT = {"kubernetes-aio", "kubernetes-asyncio"}
"""For a WebSocket these ask aiohttp's wss_proxy, and no kubeconfig."""
MAX_CONCURRENT_RUNS = 4
TIMEOUT = 600.0
"""Seconds for one of them, on a busy machine."""
ATTEMPTS = 5
"""kubernetes.core can lose output that arrives together with the end of the connection."""
SHOWN = f"exit {CODE}, stderr warned, stdout {hashlib.sha256(PAYLOAD).hexdigest()}"
"""What Ansible prints about SHOW."""
RUNS = [(client, way) for client, ways in WAYS.items() for way in ways]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCommand:
    process: subprocess.CompletedProcess[bytes]
    account: str


def commands() -> dict[str, list[str]]:
    """Client -> its program, up to namespace, pod and command."""
    by_client = programs()
    return {
        **{client: [*program, "exec"] for client, program in by_client.items()},
        "client-go by WebSocket": [*by_client["client-go"], "exec", "websocket"],
        "client-go by SPDY": [*by_client["client-go"], "exec", "spdy"],
        "ansible": playbook("exec.yml"),
    }


@pytest.fixture(scope="module")
def client_commands() -> dict[str, list[str]]:
    """Built before: a node has no way out to what they are built from."""
    try:
        return commands()
    except ProgramsMissingError as error:
        reason = f"build the clients first, `.venv/bin/python -m lab.client_programs`: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def proxy(node: Node, client_commands: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """It serves the node's cluster, where the pod runs."""
    kubectl = node.kubectl
    kubectl("create", "namespace", NAMESPACE)
    wait = ("wait", "--for=create", "serviceaccount/default", "--timeout=150s")
    kubectl(*wait, namespace=NAMESPACE)
    kubectl("run", POD, f"--image={node.box_image}", namespace=NAMESPACE)
    install(node.control_plane)
    create_connector(node.control_plane)
    with cluster_proxy(tmp_path_factory.mktemp("proxy"), node.control_plane, options=PROXY_OPTIONS) as proxy:
        node.wait_for_pod(POD, NAMESPACE)
        yield proxy
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def finished_commands(
    node: Node, proxy: RunningProxy, client_commands: Mapping[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], FinishedCommand]:
    """Client and way -> how it ended; some run at a time."""
    view = PodView(node.control_plane, proxy, tmp_path_factory.mktemp("view"))
    view.wait_until_served()

    def run(client: str, way: AccessMethod) -> FinishedCommand:
        home = tmp_path_factory.mktemp("home")
        volume = home / "volume"
        volume.mkdir()
        account = home.name
        node.control_plane.create_service_account(NAMESPACE, account)
        token = node.control_plane.issue_token(NAMESPACE, account, audiences=[AUDIENCE])
        view.write_volume(volume, token)
        view.wait_until_accepted(token)
        program = client_commands.get(f"{client} by {way.name}", client_commands[client])
        command = view.command(way, volume, [*program, *arguments(client, way, volume)])
        for _ in range(ATTEMPTS if client == "ansible" else 1):
            process = subprocess.run(
                tie_to_parent(command),
                input=PAYLOAD,
                capture_output=True,
                env=environment_without_proxies() | environment(view, client, way, home),
                timeout=TIMEOUT,
                check=False,
            )
            if SHOWN.encode() in process.stdout:
                break
        return FinishedCommand(process=process, account=account)

    with ThreadPoolExecutor(MAX_CONCURRENT_RUNS) as threads:
        running = {(client, way.name): threads.submit(run, client, way) for client, way in RUNS}
    return {key: future.result() for key, future in running.items()}


def arguments(client: str, way: AccessMethod, volume: Path) -> list[str]:
    if client == "ansible":
        command = f'sh -c "{SHOW[-1]}"'
        return variables(way, volume, space=NAMESPACE, pod=POD, command=command)
    return [NAMESPACE, POD, *(SHOW if client in WITHOUT_STDIN else ECHO)]


def environment(view: PodView, client: str, way: AccessMethod, home: Path) -> dict[str, str]:
    by_name = view.environment(client, way, home)
    if way is VIA_PROXY_URL and client in ASK_ENVIRONMENT:
        # aiohttp does not support https there; the same port accepts both.
        by_name["wss_proxy"] = (home / "volume" / "https.proxy").read_text().replace("https://", "http://")
    return by_name


@pytest.mark.parametrize(("client", "way"), [(client, way.name) for client, way in RUNS])
def test_a_command_in_a_pod_has_the_clients_streams_and_its_exit_code(
    finished_commands: dict[tuple[str, str], FinishedCommand], proxy: RunningProxy, client: str, way: str
) -> None:
    process = finished_commands[client, way].process
    if client == "ansible":
        assert SHOWN in process.stdout.decode(), process
    else:
        assert process.returncode == CODE, process.stderr.decode()
        assert len(process.stdout) == len(PAYLOAD)
        assert process.stdout == PAYLOAD
        assert b"warned" in process.stderr
    user = f"system:serviceaccount:{NAMESPACE}:{finished_commands[client, way].account}"

    def carried() -> set[tuple[str, int]]:
        return {
            (each["verb"], each["status"])
            for each in proxy.audit()
            if each["event"] == "request"
            and (each["caller"] or {}).get("user") == user
            and each["subresource"] == "exec"
        }

    # A WebSocket begins with a GET (RFC 6455 section 4.1).
    assert wait_until(carried, "the audit record") == {("create" if client == "client-go by SPDY" else "get", 101)}
