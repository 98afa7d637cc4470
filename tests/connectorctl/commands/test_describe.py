"""`connectorctl describe`, with a folder and with a cluster."""

import json
import re
from pathlib import Path

import pytest

from connector_store.kube.resources import CONNECTORS
from tests.connectorctl.cli_result import RunCli
from tests.connectorctl.commands.test_status import on_terminal
from tests.connectorctl.fake_access_cluster import FakeAccessCluster


def test_the_only_connector_of_a_folder_needs_no_name(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli("describe")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["Connector:    default/k8s-connector", "Usable:       no"]
    assert "Callers:      each holder of a token that is signed with the proxy's key" in out
    assert "Kubeconfig:   connectorctl kubeconfig default/k8s-connector --source connectors" in out
    assert "Conditions:" not in out
    assert json.loads(run_cli("describe default/k8s-connector -o json").out)["usable"] is False


def test_bindings_of_a_folder_name_the_callers(run_cli: RunCli, connectors: Path) -> None:
    (connectors / "rbac.yaml").write_text(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: user}\n"
        "rules: [{apiGroups: [connectors.alauda.io], resources: [connectors/proxy], verbs: [use]}]\n---\n"
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: user}\n"
        "subjects: [{kind: User, name: alice}]\n"
    )
    assert json.loads(run_cli("describe -o json").out)["callers"] == ["User alice"]


def test_another_name_is_an_error(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli("describe default/absent")
    assert (code, out) == (1, "")
    assert '"absent" not found in namespace "default"' in err


def test_a_lock_of_a_folder_is_shown(run_cli: RunCli, connectors: Path) -> None:
    assert "Locks:" not in run_cli("describe").out
    assert run_cli("lock default/k8s-connector --user jane --reason maintenance --source connectors").code == 0
    assert re.search(r"^Locks: +default/k8s-connector-\w+  jane  maintenance$", run_cli("describe").out, re.MULTILINE)


async def test_a_connector_of_a_cluster_has_its_conditions(cluster: FakeAccessCluster) -> None:
    condition = {"type": "Ready", "status": "True", "message": "it works"}
    spec = {"connectorClassName": "k8s", "address": "https://192.0.2.1:6443"}
    await cluster.server.put(
        CONNECTORS,
        {"metadata": {"name": "k8s", "namespace": "a"}, "spec": spec, "status": {"conditions": [condition]}},
    )
    result = await cluster.run("describe a/k8s -v")
    assert result.code == 0
    assert "Conditions:   Ready  True  it works" in result.out
    assert f"GET {cluster.server.url}/apis/connectors.alauda.io/v1alpha1/namespaces/a/connectors/k8s: 200" in result.err
    assert "Bearer" not in result.err
    quiet = await cluster.run("describe a/k8s")
    assert (quiet.err, quiet.out) == ("", result.out)


@pytest.mark.slow
@pytest.mark.parametrize(("no_color", "shown"), [("", "\x1b[31mno\x1b[0m"), ("1", "no")])
def test_a_terminal_shows_colours_unless_they_are_off(
    connectors: Path, monkeypatch: pytest.MonkeyPatch, no_color: str, shown: str
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    output = on_terminal(["connectorctl", "describe"], columns=120)
    assert f"Usable:       {shown}\r\n" in output


async def test_a_connector_that_is_not_in_the_cluster_is_an_error(cluster: FakeAccessCluster) -> None:
    result = await cluster.run("describe a/absent")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error from server")
