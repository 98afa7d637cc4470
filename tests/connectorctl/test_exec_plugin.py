"""kubectl's credential plugins."""

import json
import sys
from pathlib import Path

import jwt
import pytest

from connector_store.domain.base.names import ObjectKey
from connectorctl.exec_plugin import EXPIRY_LEEWAY, exec_credential, make_plugin
from connectorctl.options import CallerOptions, SourceOptions

KEY = ObjectKey("team-a", "k8s")


def arguments(where: SourceOptions, caller: CallerOptions, *, cluster: bool) -> list[str]:
    stanza = make_plugin(where, caller, cluster)(KEY)
    found = stanza["args"]
    assert isinstance(found, list)
    return found


def test_the_stanza_runs_this_installation(place: Path) -> None:
    stanza = make_plugin(SourceOptions(), CallerOptions(), is_cluster=False)(KEY)
    assert stanza["apiVersion"] == "client.authentication.k8s.io/v1"
    assert stanza["command"] == str(Path(sys.executable).with_name("connectorctl"))
    assert stanza["interactiveMode"] == "Never"


@pytest.mark.parametrize(
    ("where", "caller", "cluster", "options"),
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
def test_the_options_are_those_of_now(
    place: Path, where: SourceOptions, caller: CallerOptions, cluster: bool, options: str
) -> None:
    expected = options.replace("CWD", str(place)).replace("HOME", str(place)).split()
    assert arguments(where, caller, cluster=cluster) == ["credential", "team-a/k8s", *expected]


def test_a_token_is_good_until_shortly_before_its_end() -> None:
    token = jwt.encode({"exp": 1_800_000_000 + int(EXPIRY_LEEWAY)}, "x" * 32, algorithm="HS256")
    assert json.loads(exec_credential(token, {})) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": "2027-01-15T08:00:00Z"},
    }


def test_a_token_that_says_nothing_of_its_end_has_none() -> None:
    assert json.loads(exec_credential("opaque", {}))["status"] == {"token": "opaque"}


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v1beta1"}', "v1beta1", id="an older client"),
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v2"}', "v1", id="a version that there is not"),
        pytest.param("[]", "v1", id="no object"),
        pytest.param("{}", "v1", id="no version"),
        pytest.param("?", "v1", id="no JSON"),
    ],
)
def test_the_version_is_the_one_that_the_client_asks_for(asked: str, version: str) -> None:
    found = json.loads(exec_credential("t", {"KUBERNETES_EXEC_INFO": asked}))
    assert found["apiVersion"] == f"client.authentication.k8s.io/{version}"
