"""`connectorctl check`: stdout, stderr, exit code; what it finds is in test_check.py one folder up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.ports import Port
from tests.connectorctl.typed import Type


def test_a_broken_folder_is_1_and_named(typed: Type, connectors: Path) -> None:
    (connectors / "b.yaml").write_text("a: ]")
    code, out, err = typed("check connectors")
    assert code == 1
    assert out.startswith("connectors/b.yaml:1: is not YAML")
    assert "to mend" in err


def test_settings_come_from_the_environment(typed: Type, connectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_DRAIN", "soon")
    code, _, err = typed("check")
    assert code == 1
    assert "CONNECTORS_DRAIN" in err


def test_the_example_must_be_filled_in(typed: Type, connectors: Path) -> None:
    code, out, err = typed("check")
    assert code == 1
    assert out.count("\n") == 2
    assert err == "1 of 1 Connectors can be used; 2 problems to mend\n"


def test_warnings_alone_are_0(typed: Type, connectors: Path) -> None:
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().replace("REPLACE-WITH-A-TOKEN", "s3cret").replace("k8s.example", "k8s.corp"))
    path.chmod(0o644)
    code, out, err = typed("check")
    assert code == 0
    assert ": warning: " in out
    assert err.endswith("nothing to mend, 1 warning\n")


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_get_a_value(typed: Type, connectors: Path, form: str, read: Callable[[str], dict[str, Any]]) -> None:
    code, out, err = typed(f"check -o {form}")
    assert (code, err) == (1, "")
    found = read(out)
    assert (found["connectors"], found["usable"]) == (1, 1)
    assert found["findings"][0] == {
        "severity": "error",
        "file": "connectors/k8s-connector.yaml",
        "line": 10,
        "subject": "Secret default/k8s-secret",
        "path": "stringData[token]",
        "reason": "is a placeholder; put in a token of the target",
    }


def test_a_probe_is_made_when_it_is_asked_for(typed: Type, connectors: Path) -> None:
    port = Port()
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().replace("k8s.example:6443", f"127.0.0.1:{port.number}"))
    assert "Connection refused" not in typed("check").out
    assert "Connection refused" in typed("check --probe").out


def test_a_folder_that_is_not_there_is_said(typed: Type, place: Path) -> None:
    assert typed("check") == (1, "", "error: connectors: is not there; make it with: connectorctl init connectors\n")
