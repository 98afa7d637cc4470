"""scripts/former in a clone that has not all of the history."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shallow(tmp_path: Path) -> Path:
    """The last commit alone, and nowhere to fetch others from."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", "--no-checkout", f"file://{ROOT}", clone], check=True)
    subprocess.run(["git", "remote", "remove", "origin"], cwd=clone, check=True)
    (clone / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "former", clone / "scripts")
    return clone


def test_without_the_commit_it_says_how_to_get_it(shallow: Path) -> None:
    done = subprocess.run([shallow / "scripts" / "former"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    commit = done.stderr.removeprefix("error: no commit ").split()[0]
    assert done.stderr == f"error: no commit {commit} here: git fetch --unshallow\n"
