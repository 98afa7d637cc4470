"""The manifests that `connectorctl init` writes."""

import stat
from pathlib import Path

import pytest

from connector_store.domain.config.settings import Settings
from connectorctl.check import check_folder
from connectorctl.example import write_example


def test_the_example_lacks_only_token_and_address(tmp_path: Path) -> None:
    path = write_example(tmp_path / "connectors")
    filled = path.read_text().replace("REPLACE-WITH-A-TOKEN", "s3cret").replace("k8s.example", "k8s.corp")
    assert len(check_folder(path.parent, Settings(), now=0.0).findings) == 2
    path.write_text(filled)
    assert check_folder(path.parent, Settings(), now=0.0).findings == ()


def test_folder_and_file_are_private(tmp_path: Path) -> None:
    path = write_example(tmp_path / "a" / "connectors")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_existing_file_stays(tmp_path: Path) -> None:
    path = write_example(tmp_path)
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_example(tmp_path)
    assert path.read_text() == "mine"
