"""`connectorctl doctor`."""

import json
from pathlib import Path

import pytest
import yaml

from tests.connectorctl.cli_result import RunCli


def test_the_steps_are_printed_with_the_next_step(run_cli: RunCli, workdir: Path) -> None:
    code, out, err = run_cli("doctor absent.kubeconfig")
    assert (code, err) == (1, "")
    first, second, third = out.splitlines()[:3]
    assert first == "failed   kubeconfig         absent.kubeconfig does not exist"
    assert second.split(None, 2) == ["next", "step:", "make it: connectorctl kubeconfig NAMESPACE/NAME -o FILE"]
    assert third == 'skipped  token              because "kubeconfig" failed'


def test_the_steps_are_data(run_cli: RunCli, workdir: Path) -> None:
    code, out, _ = run_cli("doctor absent.kubeconfig -o json")
    assert code == 1
    assert json.loads(out)["steps"][0] == {
        "check": "kubeconfig",
        "result": "failed",
        "detail": "absent.kubeconfig does not exist",
        "next_step": "make it: connectorctl kubeconfig NAMESPACE/NAME -o FILE",
    }
    assert yaml.safe_load(run_cli("doctor absent.kubeconfig -o yaml").out) == json.loads(out)


def test_without_a_kubeconfig_it_checks_the_cluster(
    run_cli: RunCli, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    users = [{"name": "u", "user": {"token": "t"}}]
    config = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}
    Path("admin.kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", "admin.kubeconfig")
    code, out, err = run_cli("doctor")
    assert (code, err) == (1, "")
    assert out.startswith("failed   API server")
    assert 'skipped  Services            because "API server" failed' in out


def test_another_context_can_be_named(run_cli: RunCli, connectors: Path, workdir: Path) -> None:
    assert run_cli("kubeconfig default/k8s-connector --confdir confdir --proxy http://127.0.0.1:1 -o f").code == 0
    out = run_cli("doctor f --context x").out
    assert '--context: context "x" does not exist; the kubeconfig has: k8s' in out
    assert "next step: name one of these contexts" in out
    (workdir / "g").write_text((workdir / "f").read_text().replace("current-context: k8s", "current-context: y"))
    out = run_cli("doctor g").out
    assert 'current-context: context "y" does not exist; the kubeconfig has: k8s' in out
    assert "next step: set it: kubectl config use-context NAME; or name a context with --context" in out
    out = run_cli("doctor f").out
    assert "127.0.0.1:1: Connection refused" in out
