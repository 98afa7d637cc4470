"""scripts/release without the image: its files, their content, and their signature."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from connector_store.version import VERSION
from lab.helm import Helm

ROOT = Path(__file__).parents[2]
CHART = f"kubernetes-connector-{VERSION}.tgz"
SBOM = f"kubernetes-connector-{VERSION}.cdx.json"


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "release"), *arguments]
    environment = os.environ | {"DIST": str(folder), "SOURCE_DATE_EPOCH": "1700000000"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)


@pytest.fixture(scope="module")
def dist(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = release(folder, VERSION, "--draft", "--no-image")
    assert done.returncode == 0, done.stderr
    return folder / VERSION


def test_all_files_exist_and_have_a_checksum(dist: Path) -> None:
    assert {each.name for each in dist.iterdir()} == {
        CHART,
        SBOM,
        "NOTES.md",
        "SHA256SUMS",
        "connectorctl",
        "connectorctl.sha256",
    }
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=dist, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": OK") == 5


def test_the_packaged_chart_renders_like_the_folder(dist: Path, helm: Helm) -> None:
    with tarfile.open(dist / CHART) as tar:
        names = tar.getnames()
        assert all(each.isfile() for each in tar)
    assert "kubernetes-connector/manifests/system/proxy.yaml" in names
    assert not [each for each in names if "/examples/" in each]
    folder = ROOT / "charts" / "kubernetes-connector"
    rendered = [helm("template", "connector", str(each)) for each in (dist / CHART, folder)]
    packaged, written = ([each for each in yaml.safe_load_all(one) if each] for one in rendered)
    assert packaged == written
    assert len(packaged) > 20


def test_the_sbom_and_the_notes_have_this_version(dist: Path) -> None:
    assert json.loads((dist / SBOM).read_text())["metadata"]["component"]["version"] == VERSION
    assert (dist / "NOTES.md").read_text().strip()


def test_the_same_tree_creates_the_same_files(dist: Path, tmp_path: Path) -> None:
    assert release(tmp_path, VERSION, "--draft", "--no-image").returncode == 0
    for each in dist.iterdir():
        assert (tmp_path / VERSION / each.name).read_bytes() == each.read_bytes(), each.name


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a new git repository with the files of this one and the same .venv."""
    folder = tmp_path / "repository"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for each in filter(None, files):
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / each, folder / each, follow_symlinks=False)
    (folder / ".venv").mkdir()
    for path in (ROOT / ".venv").iterdir():
        if path.name != "stamp":
            (folder / ".venv" / path.name).symlink_to(path)
    stamp = (
        "echo $(cat requirements.lock requirements-dev.lock pyproject.toml scripts/install | cksum) $PWD >.venv/stamp"
    )
    for command in (["sh", "-c", stamp], ["git", "init", "-q"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=folder, check=True)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, "commit", "-q", "-a", "-m", "Add everything."], cwd=folder, check=True)


def test_a_release_is_two_commands_and_a_commit(repository: Path, helm: Helm, tmp_path: Path) -> None:
    """docs/releasing.md, without the image."""
    changelog = repository / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## Unreleased\n\n- What is new.\n")
    commit(repository)
    command = [str(repository / "scripts" / "release"), "7.8.9", "--no-image"]
    environment = os.environ | {"DIST": str(tmp_path / "dist")}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)

    assert "run scripts/version.py 7.8.9 --release, and commit" in run().stderr
    script = [sys.executable, str(repository / "scripts" / "version.py"), "7.8.9", "--release"]
    subprocess.run(script, check=True)
    assert "commit or remove what git status shows" in run().stderr
    commit(repository)
    done = run()
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "dist" / "7.8.9"
    assert (folder / "NOTES.md").read_text() == "- What is new.\n"
    assert (folder / "kubernetes-connector-7.8.9.tgz").is_file()


@pytest.mark.slow
def test_another_version_than_that_of_the_code_is_refused(tmp_path: Path) -> None:
    done = release(tmp_path, "9.9.9", "--no-image")
    assert done.returncode == 1
    assert "scripts/version.py 9.9.9" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_signature_of_the_checksums_verifies_as_documented(dist: Path, tmp_path: Path) -> None:
    """docs/releasing.md: ssh-keygen -Y."""
    key = tmp_path / "release"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()
    (tmp_path / "allowed_signers").write_text(f"release@example.com {public}")
    sums = tmp_path / "SHA256SUMS"
    sums.write_bytes((dist / "SHA256SUMS").read_bytes())
    name = ("-n", "kubernetes-connector")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", *name, "-f", str(key), str(sums)], check=True)
    verify = ["ssh-keygen", "-Y", "verify", *name, "-f", str(tmp_path / "allowed_signers"), "-I", "release@example.com"]
    verify += ["-s", str(tmp_path / "SHA256SUMS.sig")]
    good = subprocess.run(verify, input=sums.read_bytes(), capture_output=True, check=False)
    bad = subprocess.run(verify, input=sums.read_bytes() + b"x", capture_output=True, check=False)
    assert (good.returncode, bad.returncode != 0) == (0, True)
