"""Issued tokens that expire in use: renewed without an error, until the issuing account loses its right.

Each token has a lifetime of seconds here. A run in real time, with tokens of ten minutes, is in bench/RESULTS.md.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.manifests import connector, secret, service_account_token_auth
from lab.process import Process, complete_lines
from lab.waiting import wait_until
from tests.cluster.proxy.proxied_connector import target_token
from tests.cluster.proxy.running_proxy import RunningProxy
from tests.cluster.short_tokens import IssuedToken, ShortTokens
from tests.fakes.background import background

LIFE: Final = 30
"""Lifetime of an issued token in seconds. It is renewed in its last fifth, which is enough on a busy machine."""
RENEWALS: Final = 3
MAX_ROUNDS: Final = 8
"""Maximum number of renewals. On a busy machine, the next token may come after the end of the last one."""
BY: Final = "{}-minter"
"""The ServiceAccount that may issue tokens, by Connector."""

pytestmark = [pytest.mark.waits, pytest.mark.timeout(900)]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Each Connector has an account of the target of its own, of its name."""

    plane: ControlPlane
    proxy: RunningProxy
    front: ShortTokens
    namespace: str

    def connector(self, name: str) -> dict[str, Any]:
        auth = service_account_token_auth(f"{self.namespace}/{name}", secret=name)
        return connector(name, self.front.url, namespace="team-a", auth=auth)

    def put_connector(self, name: str, token: str) -> Kubectl:
        """kubectl through a Connector whose Secret has that token."""
        secret_manifest = secret(name, namespace="team-a", token=token, ca=self.plane.ca_pem)
        self.proxy.write(f"{name}.yaml", self.connector(name), secret_manifest)
        kubectl = self.proxy.kubectl(self.plane.kubectl, self.connector(name))
        wait_until(lambda: kubectl.run("get", "configmaps", namespace=self.namespace).returncode == 0, "the Connector")
        return kubectl

    def minted(self, name: str) -> list[IssuedToken]:
        return self.front.issued.get(name, [])

    def client(self, name: str) -> "Client":
        return Client(self, name)

    def requests_by(self, name: str) -> dict[str, int]:
        """How many requests the API server has had with each token of the account, by its id."""
        counted: dict[str, int] = {}
        for line in complete_lines(self.plane.audit_log):
            if f'"username":"system:serviceaccount:{self.namespace}:{name}"' in line:
                (token,) = json.loads(line)["user"]["extra"]["authentication.kubernetes.io/credential-id"]
                counted[token] = counted.get(token, 0) + 1
        return counted


class Client:
    """One tunnel that stays open over many requests, as clients of the API keep theirs."""

    def __init__(self, scene: Scene, name: str) -> None:
        self._connection = scene.proxy.open_tunnel(ObjectKey("team-a", name), scene.front.url)
        self._path = f"/api/v1/namespaces/{scene.namespace}/configmaps?limit=1"

    def close(self) -> None:
        self._connection.close()

    def get(self) -> int:
        """Return the status, of a refused CONNECT too. A connection that the proxy closed is opened again."""
        try:
            self._connection.request("GET", self._path)
        except OSError as error:
            # http.client has it in words alone.
            refused = re.match(r"Tunnel connection failed: (\d+) ", str(error))
            if refused is None:
                raise
            return int(refused[1])
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


@pytest.fixture(scope="module")
def scene(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("renewals")
    namespace = control_plane.create_namespace(home.name)
    target_token(control_plane, namespace)
    proxy = RunningProxy(home)
    with background(ShortTokens(control_plane, LIFE).serving()) as (front, _), proxy:
        assert isinstance(front, ShortTokens)
        yield Scene(plane=control_plane, proxy=proxy, front=front, namespace=namespace)


def account(scene: Scene, name: str) -> str:
    """Create an account of the target, and one that may only issue its tokens; return the name of the second."""
    kubectl, namespace, minter = scene.plane.kubectl, scene.namespace, BY.format(name)
    for each in (name, minter):
        scene.plane.create_service_account(namespace, each)
    kubectl("create", "rolebinding", name, "--clusterrole=cluster-admin", f"--serviceaccount={namespace}:{name}",
            namespace=namespace)  # fmt: skip
    kubectl("create", "role", minter, "--verb=create", "--resource=serviceaccounts/token",
            f"--resource-name={name}", namespace=namespace)  # fmt: skip
    bind(scene, minter)
    return minter


def bind(scene: Scene, minter: str) -> None:
    scene.plane.kubectl(
        "create", "rolebinding", minter, f"--role={minter}", f"--serviceaccount={scene.namespace}:{minter}",
        namespace=scene.namespace,
    )  # fmt: skip


def test_a_pipeline_and_a_watch_keep_working_over_three_renewals(scene: Scene, tmp_path: Path) -> None:
    name = "pipeline"
    kubectl = scene.put_connector(
        name, scene.plane.issue_token(scene.namespace, account(scene, name), lifetime=7 * 24 * 3600)
    )
    first = scene.minted(name)[0]
    kubectl("create", "configmap", "step", "--from-literal=number=0", namespace=scene.namespace)
    watch_output = tmp_path / "watch"
    command = kubectl.command("get", "configmap", "step", "--watch", "-o", 'jsonpath={.data.number}{"\\n"}',
                              namespace=scene.namespace)  # fmt: skip
    watch = Process(command, log=watch_output, environment=kubectl.environment)
    with ExitStack() as stack:
        client = stack.enter_context(closing(scene.client(name)))
        stack.callback(watch.kill)
        watch.start()
        wait_until(partial(_has_text, watch_output, "0"), "the watch to be open")
        rounds: list[set[int]] = []
        while rounds.count({200}) < RENEWALS:
            assert len(rounds) < MAX_ROUNDS, rounds
            statuses, count = set[int](), len(scene.minted(name))
            rounds.append(statuses)
            number = len(rounds)

            def renewed(statuses: set[int] = statuses, count: int = count) -> bool:
                statuses.add(client.get())
                return len(scene.minted(name)) > count

            wait_until(renewed, f"renewal {number}")
            assert statuses <= {200, 502}
            patch = ("patch", "configmap", "step", "--type=merge", "-p", json.dumps({"data": {"number": str(number)}}))
            done = kubectl.run(*patch, namespace=scene.namespace)
            assert (done.returncode, done.stderr) == (0, "")
            wait_until(partial(_has_text, watch_output, str(number)), f"change {number} in the watch")
        assert watch.is_running
    assert watch_output.read_text().split() == [str(number) for number in range(len(rounds) + 1)]
    used = wait_until(
        lambda: counted if len(counted := scene.requests_by(name)) > RENEWALS else None, "the target's audit records"
    )
    assert set(used) <= {f"JTI={each.id}" for each in scene.minted(name)}
    # The first has ended, also where it counts.
    wait_until(
        lambda: time.time() > first.expires_at and refused(scene.plane, first.token), "the API server to refuse it"
    )


def refused(plane: ControlPlane, token: str) -> bool:
    path = plane.write_kubeconfig("minted.kubeconfig", {"token": token})
    return "Unauthorized" in Kubectl(plane.kubectl.program, path).run("auth", "whoami").stderr


def unbind(scene: Scene, minter: str) -> None:
    scene.plane.kubectl("delete", "rolebinding", minter, namespace=scene.namespace)


def remove_account(scene: Scene, minter: str) -> None:
    scene.plane.kubectl("delete", "serviceaccount", minter, namespace=scene.namespace)


def remove_secret(scene: Scene, minter: str) -> None:
    scene.plane.kubectl("delete", "secret", minter, namespace=scene.namespace)


def bound(scene: Scene, minter: str) -> str:
    """A token that is good while a Secret of the target is there."""
    scene.plane.kubectl("create", "secret", "generic", minter, namespace=scene.namespace)
    return scene.plane.kubectl(
        "create", "token", minter, "--bound-object-kind=Secret", f"--bound-object-name={minter}", "--duration=48h",
        namespace=scene.namespace,
    ).strip()  # fmt: skip


def unbound(scene: Scene, minter: str) -> str:
    return scene.plane.issue_token(scene.namespace, minter, lifetime=7 * 24 * 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    prepare: Callable[[Scene, str], str]
    revoke: Callable[[Scene, str], None]
    why: str


WAYS: Final = {
    "by-binding": Revoked(prepare=unbound, revoke=unbind, why="may not create serviceaccounts/token"),
    "by-account": Revoked(prepare=unbound, revoke=remove_account, why="does not accept the credential"),
    "by-secret": Revoked(prepare=bound, revoke=remove_secret, why="does not accept the credential"),
}


@pytest.fixture(scope="module")
def revoked(scene: Scene) -> dict[str, Kubectl]:
    """All at once: each serves on for a while."""
    minters = {name: account(scene, name) for name in WAYS}
    kubectls = {name: scene.put_connector(name, way.prepare(scene, minters[name])) for name, way in WAYS.items()}
    for name, way in WAYS.items():
        way.revoke(scene, minters[name])
    return kubectls


def _has_text(output: Path, name: str) -> bool:
    return name in output.read_text().split()


@pytest.mark.parametrize("name", WAYS)
def test_without_its_issuing_account_a_connector_works_until_its_token_expires(
    scene: Scene, revoked: dict[str, Kubectl], name: str
) -> None:
    statuses = set[int]()
    with closing(scene.client(name)) as client:

        def other() -> set[int]:
            statuses.add(client.get())
            return statuses - {200}

        wait_until(other, "the end of service")
    # Not one request went to the target with a token that has ended; a JWT's times are whole seconds.
    assert statuses <= {200, 502}
    assert time.time() >= scene.minted(name)[-1].expires_at - 1
    done = revoked[name].run("get", "configmaps", namespace=scene.namespace)
    assert done.returncode != 0
    assert WAYS[name].why in done.stderr
    assert f'secrets "{name}"' in done.stderr


def test_a_connector_works_again_when_its_account_has_the_right_again(
    scene: Scene, revoked: dict[str, Kubectl]
) -> None:
    name = "by-binding"
    minter, kubectl = BY.format(name), revoked[name]
    wait_until(
        lambda: kubectl.run("get", "configmaps", namespace=scene.namespace).returncode != 0, "the end of service"
    )
    bind(scene, minter)
    wait_until(lambda: kubectl.run("get", "configmaps", namespace=scene.namespace).returncode == 0, "service again")
