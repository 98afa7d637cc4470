"""scripts/version.py, on a copy of the files that repeat the version."""

import re
import subprocess
from pathlib import Path

import pytest

from connector_store.version import VERSION
from tests.release import script_copy

pytestmark = pytest.mark.slow

SCRIPT = "scripts/version.py"
FILES = [
    "connector_store/version.py",
    "Dockerfile",
    "charts/kubernetes-connector/Chart.yaml",
    "deploy/product/kustomization.yaml",
    "deploy/examples/overlay/kustomization.yaml",
    "docs/quickstart.md",
    "docs/helm.md",
    "docs/kind.md",
    "docs/outside.md",
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return script_copy.copy_files([SCRIPT, *FILES], tmp_path)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return script_copy.run(root / SCRIPT, *arguments)


def test_every_file_has_the_version_of_the_code(copy: Path) -> None:
    assert run(copy).returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION.partition("-")[0])


@pytest.mark.parametrize("file", FILES)
def test_a_file_with_another_version_is_named(copy: Path, file: str) -> None:
    path = copy / file
    path.write_text(path.read_text().replace(VERSION, "9.9.9", 1))
    done = run(copy)
    assert done.returncode == 1
    assert file in done.stderr


def test_a_new_version_is_written_everywhere(copy: Path) -> None:
    assert run(copy, "7.8.9-rc.1").returncode == 0
    for file in FILES:
        text = (copy / file).read_text()
        assert "7.8.9-rc.1" in text
        assert f":{VERSION}" not in text
        assert f" {VERSION}\n" not in text


def test_a_release_moves_the_unreleased_notes_under_its_heading(copy: Path) -> None:
    changelog = copy / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## Unreleased\n\n- New.\n\n## 0.0.1 - 2020-01-01\n\n- Old.\n")
    assert run(copy, "7.8.9", "--release").returncode == 0
    written = re.sub(r"7\.8\.9 - \d{4}-\d\d-\d\d\n", "7.8.9 - DAY\n", changelog.read_text())
    assert written == ("# Changelog\n\n## Unreleased\n\n## 7.8.9 - DAY\n\n- New.\n\n## 0.0.1 - 2020-01-01\n\n- Old.\n")
    again = run(copy, "7.8.9", "--release")
    assert (again.returncode, again.stderr) == (1, "error: CHANGELOG.md: has 7.8.9 already\n")
    empty = run(copy, "8.0.0", "--release")
    assert (empty.returncode, empty.stderr) == (
        1,
        "error: CHANGELOG.md: section Unreleased is empty; describe the release there\n",
    )
    assert "7.8.9" in (copy / FILES[0]).read_text()


def test_an_invalid_version_is_refused(copy: Path) -> None:
    done = run(copy, "v1")
    assert done.returncode == 1
    assert "MAJOR.MINOR.PATCH" in done.stderr
    assert VERSION in (copy / FILES[0]).read_text()
