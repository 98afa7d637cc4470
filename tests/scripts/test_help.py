"""`--help` of each script prints help and does nothing, on a machine on which nothing is set up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHELL = sorted(each.name for each in (ROOT / "scripts").iterdir() if each.is_file() and os.access(each, os.X_OK))
PYTHON = sorted(each.name for each in (ROOT / "scripts").glob("*.py"))
WITH_ARGUMENTS_OF_ANOTHER = {"demo.py", "mutants.py"}
"""Run by the shell scripts of their name, which answer for them."""
PARTS = {"lanes.py", "terminal.py", "usage.py"}
TIMEOUT = 60.0


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The scripts and what they import, without a .venv and without sources that they could change."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("go", "__pycache__"))
    return tmp_path


def files(folder: Path) -> set[Path]:
    return {each for each in folder.rglob("*") if "__pycache__" not in each.parts}


def run(bare: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HOME": str(bare), "PYTHONDONTWRITEBYTECODE": "1", "GOFLAGS": "-mod=mod"}
    return subprocess.run(
        command, cwd=bare, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
    )


def test_there_are_scripts() -> None:
    assert {"install", "install-node", "check", "test", "image", "demo", "cluster", "bench", "protos"} <= set(SHELL)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", SHELL)
def test_help_of_a_script_is_printed_and_nothing_is_done(bare: Path, name: str, flag: str) -> None:
    before = files(bare)
    done = run(bare, str(bare / "scripts" / name), flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 40
    assert not done.stdout.startswith("#")
    assert files(bare) == before


@pytest.mark.parametrize("name", [each for each in PYTHON if each not in PARTS | WITH_ARGUMENTS_OF_ANOTHER])
def test_help_of_a_program_is_printed_and_nothing_is_done(bare: Path, name: str) -> None:
    before = files(bare)
    done = run(bare, sys.executable, f"scripts/{name}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 40
    assert files(bare) == before


@pytest.mark.parametrize("name", ["install", "install-node", "check", "protos", "test", "image", "release"])
def test_an_argument_that_there_is_not_does_nothing_either(bare: Path, name: str) -> None:
    before = files(bare)
    done = run(bare, str(bare / "scripts" / name), "--nothing")
    assert done.returncode == 2
    assert done.stderr
    assert files(bare) == before
