"""Builds of the clients in other languages, from lock files that do not name a registry."""

import re
import sys
from pathlib import Path

import pytest

from lab import client_programs
from lab.client_programs import ECOSYSTEMS, Ecosystem, add_registry, ensure_clients
from lab.go_modules import ProgramsMissingError

PINNED = """\
version = 4

[[package]]
name = "a"
version = "1.0.0"
checksum = "00"

[[package]]
name = "ours"
version = "0.0.0"
"""
RESOLVED = """\
[[package]]
name = "a"
version = "1.0.1"
source = "registry+of Cargo"
checksum = "01"
"""
REGISTRY = re.compile(r"https?://[^\s\"]*(registry|index|pypi|maven|repo|crates)", re.IGNORECASE)


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(client_programs, "PINS", tmp_path / "pins")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "pins" / "tiny"
    folder.mkdir(parents=True)
    (folder / "pinned.lock").write_text("a 1")
    (folder / "program").write_text("one")
    return folder


def tiny(build: list[str], **changed: str) -> Ecosystem:
    return Ecosystem(
        folder="tiny",
        tool=changed.get("tool", "sh"),
        hint="install it",
        build=lambda pins, cache: client_programs.run_with_output(build, cache),
        pinned_files=changed.get("pinned", "**/*"),
    )


@pytest.mark.slow
def test_clients_are_built_once_and_again_when_a_pin_changes(pins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ecosystem = tiny(["sh", "-c", "echo built >>builds"], pinned="*.lock")
    first = ensure_clients(ecosystem)
    assert ensure_clients(ecosystem) == first
    assert (first / "builds").read_text() == "built\n"
    assert "building the client in tiny" in capsys.readouterr().err
    (pins / "program").write_text("another")
    assert ensure_clients(ecosystem) == first
    (pins / "pinned.lock").write_text("a 2")
    assert ensure_clients(ecosystem) != first


@pytest.mark.slow
def test_an_incomplete_build_starts_from_an_empty_folder(pins: Path) -> None:
    with pytest.raises(ProgramsMissingError, match="no such thing"):
        ensure_clients(tiny(["sh", "-c", "touch half; echo no such thing; exit 3"]))
    assert not (ensure_clients(tiny(["sh", "-c", "touch whole-one"])) / "half").exists()


def test_a_missing_tool_is_named_with_the_next_step(pins: Path) -> None:
    with pytest.raises(ProgramsMissingError, match="no such-tool on PATH for the client in tiny: install it"):
        ensure_clients(tiny([sys.executable], tool="such-tool"))


def test_each_crate_gets_the_registry_of_cargo() -> None:
    assert add_registry(PINNED, RESOLVED) == PINNED.replace(
        'checksum = "00"', 'source = "registry+of Cargo"\nchecksum = "00"'
    )


@pytest.mark.parametrize("ecosystem", ECOSYSTEMS, ids=lambda ecosystem: ecosystem.folder)
def test_no_lock_file_names_the_host_of_a_registry(ecosystem: Ecosystem) -> None:
    files = [path for path in ecosystem.pins.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert REGISTRY.search(path.read_text()) is None, path
