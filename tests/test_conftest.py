"""Tests, and the programs that they start, try the tree that they lie in."""

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
FIND = "from importlib.util import find_spec; import sys; print(*(find_spec(each).origin for each in sys.argv[1:]))"


def of_this_tree() -> list[str]:
    return [str(ROOT / each.__name__ / "__init__.py") for each in PACKAGES]


def test_what_is_imported_here_is_of_this_tree() -> None:
    assert [each.__file__ for each in PACKAGES] == of_this_tree()


def test_who_is_not_marked_slow_starts_no_program() -> None:
    with pytest.raises(pytest.fail.Exception, match="mark it slow"):
        subprocess.run(["true"], check=True)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The interpreter of an environment into which another tree was installed."""
    other = tmp_path / "other"
    for each in PACKAGES:
        (other / each.__name__).mkdir(parents=True)
        (other / each.__name__ / "__init__.py").touch()
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
@pytest.mark.parametrize("inherits", [True, False], ids=["as tests start it", "with nothing from us"])
def test_what_is_started_is_of_this_tree_whatever_was_installed(foreign: Path, inherits: bool, tmp_path: Path) -> None:
    command = [str(foreign), "-c", FIND, *(each.__name__ for each in PACKAGES)]
    environment = dict(os.environ) if inherits else {}
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (found.stdout.split() == of_this_tree()) is inherits
