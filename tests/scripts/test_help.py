"""`--help` of each script prints help and does nothing, also before the installation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHELL = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK))
PYTHON = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
BEHIND_SHELL_SCRIPTS = {"demo.py", "mutants.py"}
"""Programs whose help the shell scripts of the same name print."""
MODULES = {"lanes.py", "terminal.py", "usage.py"}
TIMEOUT = 180.0


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a folder with the scripts alone, without .venv and without sources that they could change."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("go", "__pycache__"))
    return tmp_path


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def run(bare: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HOME": str(bare), "PYTHONDONTWRITEBYTECODE": "1", "GOFLAGS": "-mod=mod"}
    return subprocess.run(
        command, cwd=bare, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
    )


def test_the_scripts_are_found() -> None:
    assert {"install", "install-node", "check", "test", "image", "demo", "cluster", "bench", "protos"} <= set(SHELL)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", SHELL)
def test_help_of_a_shell_script_is_printed_and_nothing_else_happens(bare: Path, name: str, flag: str) -> None:
    before = files(bare)
    result = run(bare, str(bare / "scripts" / name), flag)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout) > 40
    assert not result.stdout.startswith("#")
    assert files(bare) == before


@pytest.mark.parametrize("name", [name for name in PYTHON if name not in MODULES | BEHIND_SHELL_SCRIPTS])
def test_help_of_a_program_is_printed_and_nothing_else_happens(bare: Path, name: str) -> None:
    before = files(bare)
    result = run(bare, sys.executable, f"scripts/{name}", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout) > 40
    assert files(bare) == before


@pytest.mark.parametrize("name", ["install", "install-node", "check", "protos", "test", "image", "release"])
def test_an_unknown_argument_is_an_error_and_nothing_happens(bare: Path, name: str) -> None:
    before = files(bare)
    result = run(bare, str(bare / "scripts" / name), "--nothing")
    assert result.returncode == 2
    assert result.stderr
    assert files(bare) == before
