"""scripts/release, but for the image: the files are there, right, and the same again; and how they are signed."""

import json
import os
import subprocess
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
