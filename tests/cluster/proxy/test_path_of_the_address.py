"""Stock kubectl with a Connector whose address has a path: get, watch and exec through a gateway to a real API server.

The API server starts commands at a kubelet that runs them on this machine.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.proxy.exec_pod import exec_pod, serve
from tests.cluster.proxy.proxied_connector import manifests, target_token
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

PREFIX = "/kubernetes/global"
SCRIPT = 'read line; echo "$line there"; echo warned >&2; exit 7'


@dataclass(frozen=True, kw_only=True)
class World:
    """`kubectls` has kubectl by the way that it uses the Connector."""

    plane: ControlPlane
    proxy: RunningProxy
    namespace: str
    kubectls: dict[str, Kubectl]


@pytest.fixture(scope="module")
def world(
    control_plane: ControlPlane, gateway_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    plane, home = control_plane, tmp_path_factory.mktemp("path")
    namespace = plane.create_namespace(f"behind-{home.name}")
    with ExitStack() as stack:
        stack.enter_context(exec_pod(plane, namespace, gateway_programs, home=home))
        arguments = (f"-prefix={PREFIX}", f"-target={plane.url}", f"-ca={plane.ca.certificate}")
        gateway = stack.enter_context(serve(plane, gateway_programs / "gateway", *arguments, home=home))
        connector, secret = manifests(plane, target_token(plane, namespace))
        connector["spec"]["address"] = f"https://127.0.0.1:{gateway}{PREFIX}"
        proxy = RunningProxy(home / "proxy")
        proxy.write("k8s.yaml", connector, secret)
        stack.enter_context(proxy)
        kubectls = {
            "by proxy": proxy.kubectl(plane.kubectl, connector),
            "direct": proxy.kubectl(plane.kubectl, connector, direct=True),
        }
        yield World(plane=plane, proxy=proxy, namespace=namespace, kubectls=kubectls)


@pytest.fixture(params=["by proxy", "direct"])
def kubectl(request: pytest.FixtureRequest, world: World) -> Kubectl:
    return world.kubectls[request.param]


def test_get_and_watch(kubectl: Kubectl, world: World, tmp_path: Path) -> None:
    assert kubectl("get", "pods", "-o", "name", namespace=world.namespace) == "pod/p\n"
    command = kubectl.command("get", "configmaps", "--watch", "-o", "name", namespace=world.namespace)
    name = tmp_path.name.replace("_", "-")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kubectl.environment) as watch:
        try:
            kubectl("create", "configmap", name, namespace=world.namespace)
            assert watch.stdout is not None
            assert any(line.strip() == f"configmap/{name}" for line in watch.stdout)
        finally:
            watch.kill()


@pytest.mark.parametrize("websockets", ["true", "false"], ids=["WebSocket", "SPDY"])
def test_exec(kubectl: Kubectl, world: World, websockets: str) -> None:
    done = subprocess.run(
        kubectl.command("exec", "-i", "p", "--", "sh", "-c", SCRIPT, namespace=world.namespace),
        input="hello\n",
        capture_output=True,
        text=True,
        env=(kubectl.environment or {}) | {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets},
        timeout=WAIT_TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "hello there\n"), done.stderr
    assert "warned\n" in done.stderr
    verb = "get" if websockets == "true" else "create"

    def sessions() -> bool:
        records = [each for each in world.proxy.audit() if each["event"] == "stream"]
        return any((each["subresource"], each["verb"], each["status"]) == ("exec", verb, 101) for each in records)

    wait_until(sessions, "the audit record of the session")


def test_the_proxy_refuses_requests_outside_of_the_path(world: World) -> None:
    kubeconfig = world.kubectls["by proxy"].kubeconfig
    outside = kubeconfig.with_name("outside.kubeconfig")
    outside.write_text(kubeconfig.read_text().replace(PREFIX, "/kubernetes/other"))
    result = Kubectl(world.plane.kubectl.program, outside).run("get", "pods", namespace=world.namespace)
    assert result.returncode != 0
    assert PREFIX in result.stderr
