"""`connectorctl check`: stdout, stderr, exit code; what it finds is in test_check.py one folder up."""

from pathlib import Path

import pytest

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
