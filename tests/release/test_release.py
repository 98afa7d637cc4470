"""scripts/release, but for the image: the files are there, right, and the same again; and how they are signed."""

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
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)


@pytest.fixture(scope="module")
def made(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = release(folder, VERSION, "--draft", "--no-image")
    assert done.returncode == 0, done.stderr
    return folder / VERSION


def test_all_files_are_there_and_have_their_checksum(made: Path) -> None:
    assert {each.name for each in made.iterdir()} == {CHART, SBOM, "NOTES.md", "SHA256SUMS"}
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": OK") == 3


def test_the_package_is_a_chart_that_renders_as_the_folder_does(made: Path, helm: Helm) -> None:
    with tarfile.open(made / CHART) as tar:
        names = tar.getnames()
        assert all(each.isfile() for each in tar)
    assert "kubernetes-connector/manifests/system/proxy.yaml" in names
    assert not [each for each in names if "/examples/" in each]
    folder = ROOT / "charts" / "kubernetes-connector"
    rendered = [helm("template", "connector", str(each)) for each in (made / CHART, folder)]
    packaged, written = ([each for each in yaml.safe_load_all(one) if each] for one in rendered)
    assert packaged == written
    assert len(packaged) > 20


def test_the_sbom_and_the_notes_are_of_this_version(made: Path) -> None:
    assert json.loads((made / SBOM).read_text())["metadata"]["component"]["version"] == VERSION
    assert (made / "NOTES.md").read_text().strip()


def test_the_same_tree_makes_the_same_files(made: Path, tmp_path: Path) -> None:
    assert release(tmp_path, VERSION, "--draft", "--no-image").returncode == 0
    for each in made.iterdir():
        assert (tmp_path / VERSION / each.name).read_bytes() == each.read_bytes(), each.name


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files of this one under git of their own, with the same .venv."""
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
    subprocess.run(["git", *who, "commit", "-q", "-a", "-m", "All of it."], cwd=folder, check=True)


def test_a_release_is_two_commands_and_a_commit(repository: Path, helm: Helm, tmp_path: Path) -> None:
    """docs/releasing.md, without the image."""
    changelog = repository / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## Unreleased\n\n- What is new.\n")
    commit(repository)
    command = [str(repository / "scripts" / "release"), "7.8.9", "--no-image"]
    environment = os.environ | {"DIST": str(tmp_path / "dist")}

    def made() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)

    assert "run scripts/version.py 7.8.9 --release, and commit" in made().stderr
    script = [sys.executable, str(repository / "scripts" / "version.py"), "7.8.9", "--release"]
    subprocess.run(script, check=True)
    assert "commit or remove what git status shows" in made().stderr
    commit(repository)
    done = made()
    assert done.returncode == 0, done.stderr
    dist = tmp_path / "dist" / "7.8.9"
    assert (dist / "NOTES.md").read_text() == "- What is new.\n"
    assert (dist / "kubernetes-connector-7.8.9.tgz").is_file()


@pytest.mark.slow
def test_another_version_than_the_codes_is_refused(tmp_path: Path) -> None:
    done = release(tmp_path, "9.9.9", "--no-image")
    assert done.returncode == 1
    assert "scripts/version.py 9.9.9" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_signature_of_the_checksums_verifies_as_documented(made: Path, tmp_path: Path) -> None:
    """docs/releasing.md: ssh-keygen -Y."""
    key = tmp_path / "release"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()
    (tmp_path / "allowed_signers").write_text(f"release@example.com {public}")
    sums = tmp_path / "SHA256SUMS"
    sums.write_bytes((made / "SHA256SUMS").read_bytes())
    name = ("-n", "kubernetes-connector")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", *name, "-f", str(key), str(sums)], check=True)
    verify = ["ssh-keygen", "-Y", "verify", *name, "-f", str(tmp_path / "allowed_signers"), "-I", "release@example.com"]
    verify += ["-s", str(tmp_path / "SHA256SUMS.sig")]
    good = subprocess.run(verify, input=sums.read_bytes(), capture_output=True, check=False)
    bad = subprocess.run(verify, input=sums.read_bytes() + b"x", capture_output=True, check=False)
    assert (good.returncode, bad.returncode != 0) == (0, True)
