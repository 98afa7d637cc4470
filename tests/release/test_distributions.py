"""The distributions that Python's own tools build: the product, without lab, bench and tests."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = {"addons", "connector_store", "connector_controller", "connector_csi", "connectorctl"}


@pytest.mark.slow
def test_the_wheel_and_the_source_archive_have_the_product_alone(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=tree, input=archive, check=True)
    for hook in ("build_sdist", "build_wheel"):
        build = f"from setuptools import build_meta; build_meta.{hook}({str(tmp_path)!r})"
        done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    [wheel], [source] = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as whole:
        inside = {each.split("/")[0] for each in whole.namelist()}
        entries = next(each for each in whole.namelist() if each.endswith("/entry_points.txt"))
        programs = {line.split(" = ")[0] for line in whole.read(entries).decode().splitlines()[1:] if line}
    assert {each for each in inside if not each.endswith(".dist-info")} == PRODUCT
    assert programs == {"connectorctl", "kubectl-connector", "kubectl_complete-connector"}
    with tarfile.open(source) as whole_source:
        folders = {each.name.split("/")[1] for each in whole_source if each.name.count("/") > 1}
    assert {each for each in folders if not each.endswith(".egg-info")} == PRODUCT
