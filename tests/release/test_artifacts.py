"""scripts/artifacts.py: notes, SBOM and a package that comes out the same again."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MOMENT = "1700000000"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "scripts" / "artifacts.py"), *arguments]
    environment = os.environ | {"SOURCE_DATE_EPOCH": MOMENT}
    return subprocess.run(script, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def sbom() -> Any:
    done = run("sbom", str(ROOT / "requirements.lock"), "1.2.3")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CHANGELOG = """# Changelog

## Unreleased

## 1.2.3 - 2026-11-25

### Added

- A thing.

## 1.2.2

- Another.
"""


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        pytest.param(["1.2.3"], "### Added\n\n- A thing.\n", id="with a date"),
        pytest.param(["1.2.2"], "- Another.\n", id="the last one"),
        pytest.param(["Unreleased", "1.2.3"], "### Added\n\n- A thing.\n", id="the first that says something"),
    ],
)
def test_notes_are_the_section_of_the_version(tmp_path: Path, sections: list[str], expected: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    assert run("notes", str(tmp_path / "CHANGELOG.md"), *sections).stdout == expected


@pytest.mark.parametrize("section", ["Unreleased", "1.2", "9.9.9"])
def test_a_version_of_which_nothing_is_said_is_an_error(tmp_path: Path, section: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    done = run("notes", str(tmp_path / "CHANGELOG.md"), section)
    assert done.returncode == 1
    assert f'nothing under "## {section}"' in done.stderr


def test_the_sbom_has_every_package_as_it_is_installed_here(sbom: Any) -> None:
    """The lock is what this environment was made of, too."""
    for each in sbom["components"]:
        assert installed(each["name"]) == each["version"]
        assert each["purl"] == f"pkg:pypi/{canonicalize_name(each['name'])}@{each['version']}"
        assert each["hashes"]
        assert all(len(one["content"]) == 64 and one["alg"] == "SHA-256" for one in each["hashes"])
    names = {each["name"] for each in sbom["components"]}
    assert {"mitmproxy", "cryptography", "grpcio"} <= names
    assert not {"pydivert", "mitmproxy-macos", "pytest"} & names


def test_everything_in_the_sbom_is_reached_from_the_product(sbom: Any) -> None:
    uses = {each["ref"]: each["dependsOn"] for each in sbom["dependencies"]}
    references = {each["bom-ref"] for each in sbom["components"]}
    reached: set[str] = set()
    waiting = [sbom["metadata"]["component"]["bom-ref"]]
    while waiting:
        for each in set(uses[waiting.pop()]) - reached:
            reached.add(each)
            waiting.append(each)
    assert reached == references
    assert len(references) == len(sbom["components"])


def test_the_sbom_is_of_the_version_and_the_moment_that_were_said(sbom: Any) -> None:
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.6", 1)
    assert sbom["metadata"]["component"]["version"] == "1.2.3"
    assert sbom["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert sbom == json.loads(run("sbom", str(ROOT / "requirements.lock"), "1.2.3").stdout)


def package(path: Path, files: list[tuple[str, bytes]], *, mtime: int) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.uname = len(content), mtime, "somebody"
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_a_package_is_the_same_whenever_and_in_whatever_order_it_was_made(tmp_path: Path) -> None:
    files = [("chart/Chart.yaml", b"name: chart\n"), ("chart/a.yaml", b"a: 1\n")]
    made = []
    for number, order in enumerate((files, files[::-1])):
        source = package(tmp_path / f"{number}.tgz", order, mtime=1_600_000_000 + number)
        target = tmp_path / f"{number}.out"
        assert run("repack", str(source), str(target)).returncode == 0
        made.append(target.read_bytes())
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(made[0]))) as tar:
        members = {each.name: each for each in tar}
        found = {name: file.read() for name in members if (file := tar.extractfile(name)) is not None}
    assert found == dict(files)
    assert {(each.mtime, each.uname, each.mode) for each in members.values()} == {(int(MOMENT), "", 0o644)}


def test_without_a_task_it_says_how_it_is_used() -> None:
    done = run()
    assert done.returncode == 2
    assert "artifacts.py sbom" in done.stderr
