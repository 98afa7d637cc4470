"""connectorctl and `kubectl connector` with a real API server: tokens that it signs, and the output of status."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import MANAGED_BY, MANAGER
from connector_store.domain.objects.manifest import API_VERSION
from connector_store.kube.events import Reporter, event_body
from connectorctl import cli
from lab.certificates import make_ca
from lab.control_plane import ControlPlane
from lab.waiting import TIMEOUT
from tests.connectorctl.cli_result import CliResult

ROOT = Path(__file__).parents[3]
CA = make_ca()
RunHere = Callable[..., CliResult]
MANIFESTS: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "k8s-secret"},
        "type": "connectors.cpaas.io/bearer-token",
        "stringData": {"token": "t"},
    },
    {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "metadata": {"name": "k8s-connector"},
        "spec": {
            "connectorClassName": "k8s",
            "address": "https://10.255.255.1:6443/kubernetes/global",
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": "k8s-secret"}},
        },
    },
]


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> ControlPlane:
    kubectl = control_plane.kubectl
    kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
    kubectl.wait_for_crds("connectors.connectors.alauda.io")
    return control_plane


@pytest.fixture
def team(installed: ControlPlane, namespace: str) -> str:
    """A namespace with the Secret and the Connector of the README."""
    for manifest in MANIFESTS:
        metadata = {**manifest["metadata"], "namespace": namespace}
        installed.api.apply({**manifest, "metadata": metadata})
    return namespace


def publish(plane: ControlPlane, namespace: str) -> None:
    """Write the status that the controller would write."""
    address = {
        "url": f"http://c-k8s-connector.{namespace}.svc.cluster.local",
        "CACerts": base64.b64encode(CA.pem).decode(),
        "audience": "connectors-proxy",
    }
    connector = plane.api.call(
        "GET", f"/apis/connectors.alauda.io/v1alpha1/namespaces/{namespace}/connectors/k8s-connector"
    )
    owner = {"apiVersion": API_VERSION, "kind": "Connector", "name": "k8s-connector", "controller": True}
    plane.api.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "c-k8s-connector",
                "namespace": namespace,
                "labels": {MANAGED_BY: MANAGER},
                "ownerReferences": [{**owner, "uid": connector["metadata"]["uid"]}],
            },
            "spec": {"type": "ExternalName", "externalName": Settings().proxy_host},
        }
    )
    patch = json.dumps({"status": {"proxy": {"httpAddress": address}}})
    plane.kubectl(
        "patch", "connector", "k8s-connector", "--subresource=status", "--type=merge", "-p", patch, namespace=namespace
    )


def command_environment(plane: ControlPlane, kubeconfig: Path | None) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig or plane.kubeconfig),
        "HOME": str(plane.folder),
    }


def run(plane: ControlPlane, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`kubectl connector …`, found by kubectl itself."""
    command = [str(plane.programs / "kubectl"), "connector", *arguments]
    environment = command_environment(plane, kubeconfig)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT)


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str]) -> RunHere:
    """Run a command in this process, with the environment of `run`. A new process takes a second of CPU."""

    def run(plane: ControlPlane, *arguments: str, kubeconfig: Path | None = None) -> CliResult:
        with mock.patch.dict(os.environ, command_environment(plane, kubeconfig), clear=True):
            code = cli.run(arguments, is_plugin=True)
        out, err = capsys.readouterr()
        return CliResult(code, out, err)

    return run


def review(plane: ControlPlane, token: str, audience: str) -> dict[str, Any]:
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    answer = plane.api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
    status: dict[str, Any] = answer["status"]
    return status


def test_a_token_is_for_the_account_and_the_proxys_audience(installed: ControlPlane, team: str) -> None:
    done = run(installed, "token", f"{team}/k8s-connector", "--service-account", f"{team}/default", "--ttl", "10m")
    assert (done.returncode, done.stderr) == (0, "")
    token = done.stdout.strip()
    status = review(installed, token, "connectors-proxy")
    assert status["user"]["username"] == f"system:serviceaccount:{team}:default"
    assert not review(installed, token, "https://kubernetes.default.svc.cluster.local").get("authenticated")


def test_a_kubeconfig_is_what_the_controller_published(installed: ControlPlane, team: str) -> None:
    publish(installed, team)
    done = run(installed, "kubeconfig", f"{team}/k8s-connector", "--service-account", f"{team}/default")
    assert (done.returncode, done.stderr) == (0, "")
    cluster = yaml.safe_load(done.stdout)["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.255.255.1:6443/kubernetes/global"
    user, _, password = cluster["proxy-url"].removeprefix("http://").partition(":")
    token, _, host = password.partition("@")
    assert (user, host) == (f"{team}%2Fk8s-connector", f"c-k8s-connector.{team}.svc.cluster.local:80")
    assert review(installed, token, "connectors-proxy")["authenticated"]
    assert base64.b64decode(cluster["certificate-authority-data"]) == CA.pem


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            ("kubeconfig", "{}/k8s-connector", "--service-account", "{}/default"),
            1,
            "status.proxy.httpAddress is not set",
            id="no controller has run",
        ),
        pytest.param(
            ("token", "{}/absent", "--service-account", "{}/default"),
            1,
            'connectors.connectors.alauda.io "absent" not found',
            id="no such Connector",
        ),
        pytest.param(
            ("token", "{}/k8s-connector", "--service-account", "{}/absent"),
            1,
            'serviceaccounts "absent" not found',
            id="no such account",
        ),
        pytest.param(("token", "{}/k8s-connector"), 2, "--service-account", id="no account is named"),
        pytest.param(
            ("status", "--context", "absent"), 1, "no access to an API server", id="no such context in the kubeconfig"
        ),
    ],
)
def test_a_failure_says_why(
    installed: ControlPlane, run_here: RunHere, team: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run_here(installed, *(each.format(team) for each in arguments))
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_status_shows_usability_and_the_controllers_conditions(
    installed: ControlPlane, run_here: RunHere, team: str
) -> None:
    [head, line] = run(installed, "status", "-n", team).stdout.splitlines()
    assert head.split() == ["CONNECTOR", "ADDRESS", "USABLE", "READY", "AUTH", "ALLOWS", "EXPIRES", "REASON", "MESSAGE"]
    assert line.split() == [
        f"{team}/k8s-connector",
        "https://10.255.255.1:6443/kubernetes/global",
        "yes",
        "bearerTokenAuth",
        "all",
    ]
    ready = {"type": "Ready", "status": "False", "reason": "ConnectionFailed", "message": "it is down"}
    patch = json.dumps({"status": {"conditions": [ready]}})
    installed.kubectl(
        "patch", "connector", "k8s-connector", "--subresource=status", "--type=merge", "-p", patch, namespace=team
    )
    line = run_here(installed, "status", "-n", team).out.splitlines()[1]
    assert line.split()[2:] == ["yes", "False", "bearerTokenAuth", "all", "ConnectionFailed", "it", "is", "down"]
    put_event(installed, team, "it fell over")
    described = run(installed, "describe", f"{team}/k8s-connector").stdout
    assert "Ready  False  ConnectionFailed  it is down" in described
    assert "Warning  ConnectionFailed  it fell over" in described
    assert "Group system:masters" in described
    installed.kubectl("delete", "secret", "k8s-secret", namespace=team)
    line = run_here(installed, "status", "--namespace", team).out.splitlines()[1]
    assert line.split()[2:6] == ["no", "False", "bearerTokenAuth", "all"]
    assert line.split()[6] == "SecretNotFound"


def put_event(plane: ControlPlane, namespace: str, note: str) -> None:
    body = event_body(
        Reporter("connectors.alauda.io/controller", "test", "Check"),
        name="k8s-connector.1",
        regarding={"kind": "Connector", "namespace": namespace, "name": "k8s-connector"},
        event_type="Warning",
        reason="ConnectionFailed",
        note=note,
        event_time=datetime.now(UTC),
    )
    plane.api.call("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)


def test_no_resources_is_reported_as_in_kubectl(installed: ControlPlane, run_here: RunHere) -> None:
    done = run_here(installed, "status", "-n", "nope")
    assert (done.code, done.out, done.err) == (0, "", "No resources found in nope namespace.\n")


def test_a_cluster_without_the_definitions_is_named_in_the_error(
    private_control_plane: ControlPlane, run_here: RunHere
) -> None:
    a_list, an_object = ("status",), ("token", "a/b", "--service-account", "a/default")
    for arguments in (a_list, an_object):
        done = run_here(private_control_plane, *arguments)
        assert (done.code, done.out) == (1, "")
        assert "the CustomResourceDefinition conn" in done.err
        assert "alauda.io is not installed in this cluster" in done.err


def test_status_without_the_right_to_read_fails_as_kubectl_does(
    installed: ControlPlane, run_here: RunHere, team: str
) -> None:
    token = installed.issue_token(team, "default")
    kubeconfig = installed.write_kubeconfig(f"{team}.kubeconfig", {"token": token})
    done = run_here(installed, "status", kubeconfig=kubeconfig)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        "Error from server (Forbidden): connectorclasses.connectors.alauda.io is forbidden: User"
    )
