"""The manifests that `connectorctl init` writes."""

import stat
from pathlib import Path

import pytest

from connector_store.domain.settings import Settings
from connectorctl.check import check_folder
from connectorctl.example import write_example


def test_the_example_has_no_problem(tmp_path: Path) -> None:
    write_example(tmp_path / "connectors")
    text, fatal, summary = check_folder(tmp_path / "connectors", Settings())
    assert (text, fatal, summary) == ("", False, "1 of 1 Connectors can be used; nothing to mend")


def test_folder_and_file_are_private(tmp_path: Path) -> None:
    path = write_example(tmp_path / "a" / "connectors")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_there_stays(tmp_path: Path) -> None:
    path = write_example(tmp_path)
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_example(tmp_path)
    assert path.read_text() == "mine"
