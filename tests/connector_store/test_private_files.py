"""Files that only their owner can read."""

import os
import stat
from pathlib import Path

import pytest

from connector_store.private_files import create_private, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_and_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert mode(path) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["kubeconfig"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\udc80")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["kubeconfig"]


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_private(Path("/dev/null"), "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match="/dev/full"):
        write_private(Path("/dev/full"), "text")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        write_private(tmp_path / "absent" / "kubeconfig", "text")


def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_private(tmp_path / "new", "text")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == 0o600


def test_an_existing_file_is_not_created_again(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("mine")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "new", "text")
    assert (tmp_path / "new").read_text() == "mine"
