"""Tests, and the programs that they start, import the tree that contains them."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import addons
import connector_controller
import connector_csi
import connector_store
import connectorctl

ROOT = Path(__file__).parents[1]
PACKAGES = (addons, connector_controller, connector_csi, connector_store, connectorctl)
FIND = "from importlib.util import find_spec; import sys; print(*(find_spec(name).origin for name in sys.argv[1:]))"


def files_of_this_tree() -> list[str]:
    return [str(ROOT / package.__name__ / "__init__.py") for package in PACKAGES]


def test_imported_packages_are_those_of_this_tree() -> None:
    assert [package.__file__ for package in PACKAGES] == files_of_this_tree()


def test_a_test_without_the_mark_slow_must_not_start_a_program() -> None:
    with pytest.raises(pytest.fail.Exception, match="mark it slow"):
        subprocess.run(["true"], check=True)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Return the interpreter of an environment into which another tree was installed."""
    other = tmp_path / "other"
    for package in PACKAGES:
        (other / package.__name__).mkdir(parents=True)
        (other / package.__name__ / "__init__.py").touch()
    home = tmp_path / "venv"
    variables = {"base": str(home), "platbase": str(home)}
    packages = Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))
    packages.mkdir(parents=True)
    (packages / "other.pth").write_text(f"{other}\n")
    (home / "pyvenv.cfg").write_text(f"home = {Path(sys._base_executable).parent}\n")  # type: ignore[attr-defined]  # what `venv` itself goes by
    (home / "bin").mkdir()
    python = home / "bin" / "python"
    python.symlink_to(sys._base_executable)  # type: ignore[attr-defined]  # ditto
    return python


@pytest.mark.slow
@pytest.mark.parametrize("inherits", [True, False], ids=["with the environment of tests", "with an empty environment"])
def test_started_programs_import_this_tree_and_not_the_installed_one(
    foreign: Path, inherits: bool, tmp_path: Path
) -> None:
    command = [str(foreign), "-c", FIND, *(package.__name__ for package in PACKAGES)]
    environment = dict(os.environ) if inherits else {}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (result.stdout.split() == files_of_this_tree()) is inherits
