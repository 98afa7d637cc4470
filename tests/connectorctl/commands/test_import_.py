"""`connectorctl import`: a file that `check` finds nothing wrong with, or objects in a cluster."""

from pathlib import Path

import pytest

from connectorctl.cli import run
from tests.connectorctl.test_importer import write


def test_it_writes_a_private_file_that_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path)
    assert run(["import", str(path), "-n", "team-a"], plugin=False) == 0
    made = tmp_path / "connectors" / "admin-kind.yaml"
    assert made.stat().st_mode & 0o777 == 0o600
    assert run(["import", str(path)], plugin=False) == 1
    said = capsys.readouterr()
    assert "is there already" in said.err
    assert "canary" not in said.out + said.err
    assert run(["check", "connectors"], plugin=False) == 0


def test_apply_writes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    assert run(["import", str(path), "--apply", "-o", "x"], plugin=False) == 2
    assert "writes no file" in capsys.readouterr().err
