"""scripts/former in a shallow clone."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shallow(tmp_path: Path) -> Path:
    """Return a clone with only the last commit and without a remote."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", "--no-checkout", f"file://{ROOT}", clone], check=True)
    subprocess.run(["git", "remote", "remove", "origin"], cwd=clone, check=True)
    (clone / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "former", clone / "scripts")
    return clone


def test_the_error_for_a_missing_commit_has_the_next_step(shallow: Path) -> None:
    result = subprocess.run([shallow / "scripts" / "former"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    commit = result.stderr.removeprefix("error: no commit ").split()[0]
    assert result.stderr == f"error: no commit {commit} here: git fetch --unshallow\n"
