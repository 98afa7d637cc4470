"""scripts/artifacts.py: release notes, SBOM, and reproducible packages."""

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
TIMESTAMP = "1700000000"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "scripts" / "artifacts.py"), *arguments]
    environment = os.environ | {"SOURCE_DATE_EPOCH": TIMESTAMP}
    return subprocess.run(script, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def sbom() -> Any:
    result = run("sbom", str(ROOT / "requirements.lock"), "1.2.3")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


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
        pytest.param(["Unreleased", "1.2.3"], "### Added\n\n- A thing.\n", id="the first that is not empty"),
    ],
)
def test_notes_are_the_section_of_the_version(tmp_path: Path, sections: list[str], expected: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    assert run("notes", str(tmp_path / "CHANGELOG.md"), *sections).stdout == expected


@pytest.mark.parametrize("section", ["Unreleased", "1.2", "9.9.9"])
def test_a_version_without_notes_is_an_error(tmp_path: Path, section: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    result = run("notes", str(tmp_path / "CHANGELOG.md"), section)
    assert result.returncode == 1
    assert f'nothing under "## {section}"' in result.stderr


def test_the_sbom_has_the_installed_version_of_every_package(sbom: Any) -> None:
    """This environment was installed from the same lock file."""
    for component in sbom["components"]:
        assert installed(component["name"]) == component["version"]
        assert component["purl"] == f"pkg:pypi/{canonicalize_name(component['name'])}@{component['version']}"
        assert component["hashes"]
        assert all(len(digest["content"]) == 64 and digest["alg"] == "SHA-256" for digest in component["hashes"])
    names = {component["name"] for component in sbom["components"]}
    assert {"mitmproxy", "cryptography", "grpcio"} <= names
    assert not {"pydivert", "mitmproxy-macos", "pytest"} & names


def test_all_packages_of_the_sbom_are_dependencies_of_the_product(sbom: Any) -> None:
    uses = {entry["ref"]: entry["dependsOn"] for entry in sbom["dependencies"]}
    references = {component["bom-ref"] for component in sbom["components"]}
    reached: set[str] = set()
    waiting = [sbom["metadata"]["component"]["bom-ref"]]
    while waiting:
        for reference in set(uses[waiting.pop()]) - reached:
            reached.add(reference)
            waiting.append(reference)
    assert reached == references
    assert len(references) == len(sbom["components"])


def test_the_sbom_has_the_given_version_and_time(sbom: Any) -> None:
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.6", 1)
    assert sbom["metadata"]["component"]["version"] == "1.2.3"
    assert sbom["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert sbom == json.loads(run("sbom", str(ROOT / "requirements.lock"), "1.2.3").stdout)


def package(path: Path, files: list[tuple[str, bytes]], *, mtime: int) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.uname = len(content), mtime, "builder"
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_a_repacked_package_does_not_depend_on_times_and_order(tmp_path: Path) -> None:
    files = [("chart/Chart.yaml", b"name: chart\n"), ("chart/a.yaml", b"a: 1\n")]
    packages = []
    for number, order in enumerate((files, files[::-1])):
        source = package(tmp_path / f"{number}.tgz", order, mtime=1_600_000_000 + number)
        target = tmp_path / f"{number}.out"
        assert run("repack", str(source), str(target)).returncode == 0
        packages.append(target.read_bytes())
    assert packages[0] == packages[1]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packages[0]))) as tar:
        members = {member.name: member for member in tar}
        content = {name: file.read() for name in members if (file := tar.extractfile(name)) is not None}
    assert content == dict(files)
    assert {(member.mtime, member.uname, member.mode) for member in members.values()} == {(int(TIMESTAMP), "", 0o644)}


def test_without_arguments_the_usage_is_printed() -> None:
    result = run()
    assert result.returncode == 2
    assert "artifacts.py sbom" in result.stderr
