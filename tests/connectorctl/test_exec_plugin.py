"""The exec credential plugin."""

import sys
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from connectorctl.exec_plugin import make_plugin
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
