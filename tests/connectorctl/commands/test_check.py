"""`connectorctl check`: stdout, stderr, exit code. The findings are in test_check.py one folder up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.ports import Port
from tests.connectorctl.cli_result import RunCli


def test_a_broken_folder_exits_with_1(run_cli: RunCli, connectors: Path) -> None:
    (connectors / "b.yaml").write_text("a: ]")
    code, out, err = run_cli("check connectors")
    assert code == 1
    assert out.startswith("connectors/b.yaml:1: is not YAML")
    assert "to fix" in err


def test_names_in_manifests_are_printed_in_printable_characters(run_cli: RunCli, connectors: Path) -> None:
    path = connectors / "k8s-connector.yaml"
    name = '"a\\e]0;title\\a\\nconnectors/other.yaml:1: error"'
    path.write_text(path.read_text().replace("connectorClassName: k8s", f"connectorClassName: {name}"))
    code, out, _ = run_cli("check")
    assert code == 1
    assert "a?]0;title??connectors/other.yaml" in out
    assert out.replace("\n", "").isprintable()


def test_settings_come_from_the_environment(run_cli: RunCli, connectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_DRAIN", "soon")
    code, _, err = run_cli("check")
    assert code == 1
    assert "CONNECTORS_DRAIN" in err


def test_the_example_must_be_filled_in(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli("check")
    assert code == 1
    assert out.count("\n") == 2
    assert err == "0 of 1 Connectors can be used; 2 problems to fix\n"


def test_warnings_alone_exit_with_0(run_cli: RunCli, connectors: Path) -> None:
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().replace("REPLACE-WITH-A-TOKEN", "s3cret").replace("k8s.example", "k8s.corp"))
    path.chmod(0o644)
    code, out, err = run_cli("check")
    assert code == 0
    assert ": warning: " in out
    assert err.endswith("no problems, 1 warning\n")


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_report_is_available_as_json_and_yaml(
    run_cli: RunCli, connectors: Path, form: str, load: Callable[[str], dict[str, Any]]
) -> None:
    code, out, err = run_cli(f"check -o {form}")
    assert (code, err) == (1, "")
    report = load(out)
    assert (report["connectors"], report["usable"]) == (1, 0)
    assert report["findings"][0] == {
        "severity": "error",
        "file": "connectors/k8s-connector.yaml",
        "line": 10,
        "subject": "Secret default/k8s-secret",
        "path": "stringData[token]",
        "reason": "is a placeholder; enter a token of the target",
    }


def test_targets_are_probed_on_request(run_cli: RunCli, connectors: Path) -> None:
    port = Port()
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().replace("k8s.example:6443", f"127.0.0.1:{port.number}"))
    path.write_text(path.read_text().replace("REPLACE-WITH-A-TOKEN", "some-token"))
    code, out, err = run_cli("check")
    assert (code, "Connection refused" in out) == (0, False)
    assert err.startswith("1 of 1 Connectors can be used; no problems")
    code, out, err = run_cli("check --probe")
    assert (code, "Connection refused" in out) == (1, True)
    assert err.startswith("0 of 1 Connectors can be used; 1 problem to fix")
    assert json.loads(run_cli("check --probe -o json").out)["usable"] == 0


def test_a_missing_folder_is_reported(run_cli: RunCli, workdir: Path) -> None:
    assert run_cli("check") == (
        1,
        "",
        'error: folder "connectors" does not exist; create it with: connectorctl init connectors, '
        "or from a kubeconfig with: connectorctl import\n",
    )
