"""The exec credential plugin."""

import json
import sys
from pathlib import Path

import jwt
import pytest

from connector_store.domain.base.names import ObjectKey
from connectorctl.exec_plugin import EXPIRY_LEEWAY, exec_credential, make_plugin
from connectorctl.option_values import CallerOptions, SourceOptions

KEY = ObjectKey("team-a", "k8s")


def arguments(source_options: SourceOptions, caller_options: CallerOptions, *, is_cluster: bool) -> list[str]:
    exec_config = make_plugin(source_options, caller_options, is_cluster)(KEY)
    args = exec_config["args"]
    assert isinstance(args, list)
    return args


def test_the_exec_config_runs_this_installation(workdir: Path) -> None:
    exec_config = make_plugin(SourceOptions(), CallerOptions(), is_cluster=False)(KEY)
    assert exec_config["apiVersion"] == "client.authentication.k8s.io/v1"
    assert exec_config["command"] == str(Path(sys.executable).with_name("connectorctl"))
    assert exec_config["interactiveMode"] == "Never"


@pytest.mark.parametrize(
    ("source_options", "caller_options", "is_cluster", "options"),
    [
        pytest.param(SourceOptions(), CallerOptions(), False, "--source CWD/connectors --ttl 1800s", id="a folder"),
        pytest.param(
            SourceOptions(source="~/c"), CallerOptions(ttl=60, confdir=Path("d")), False,
            "--source HOME/c --ttl 60s --confdir CWD/d", id="paths are absolute",
        ),
        pytest.param(
            SourceOptions(), CallerOptions(service_account=ObjectKey("ci", "robot")), True,
            "--source kubernetes --ttl 1800s --service-account ci/robot", id="a cluster",
        ),
        pytest.param(
            SourceOptions(source="kubernetes:x", kubeconfig="k", context="c"), CallerOptions(), True,
            "--source kubernetes:x --kubeconfig CWD/k --context c --ttl 1800s", id="a context of a kubeconfig",
        ),
    ],
)  # fmt: skip
def test_the_exec_config_has_the_current_options(
    workdir: Path, source_options: SourceOptions, caller_options: CallerOptions, is_cluster: bool, options: str
) -> None:
    expected = options.replace("CWD", str(workdir)).replace("HOME", str(workdir)).split()
    assert arguments(source_options, caller_options, is_cluster=is_cluster) == ["credential", "team-a/k8s", *expected]


def test_a_token_expires_shortly_before_its_expiry() -> None:
    token = jwt.encode({"exp": 1_800_000_000 + int(EXPIRY_LEEWAY)}, "x" * 32, algorithm="HS256")
    assert json.loads(exec_credential(token, {})) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": "2027-01-15T08:00:00Z"},
    }


def test_a_token_without_an_expiry_has_none() -> None:
    assert json.loads(exec_credential("opaque", {}))["status"] == {"token": "opaque"}


@pytest.mark.parametrize(
    ("exec_info", "version"),
    [
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v1beta1"}', "v1beta1", id="an older client"),
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v2"}', "v1", id="an unknown version"),
        pytest.param("[]", "v1", id="no object"),
        pytest.param("{}", "v1", id="no version"),
        pytest.param("?", "v1", id="no JSON"),
    ],
)
def test_the_api_version_is_that_of_the_client(exec_info: str, version: str) -> None:
    credential = json.loads(exec_credential("t", {"KUBERNETES_EXEC_INFO": exec_info}))
    assert credential["apiVersion"] == f"client.authentication.k8s.io/{version}"
