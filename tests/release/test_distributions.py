"""The distributions that Python's own tools build: the product, without lab, bench and tests."""

import subprocess
import sys
import sysconfig
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
    assert_it_can_be_installed(wheel, tmp_path / "environment")
    with tarfile.open(source) as whole_source:
        folders = {each.name.split("/")[1] for each in whole_source if each.name.count("/") > 1}
    assert {each for each in folders if not each.endswith(".egg-info")} == PRODUCT


def assert_it_can_be_installed(wheel: Path, environment: Path) -> None:
    """Install with pip into a fresh environment, as pipx does. The dependencies are those of the tests."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip: list[str | Path] = [environment / "bin" / "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    [packages] = (environment / "lib").glob("python3.*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    program = environment / "bin" / "connectorctl"
    code = "import connectorctl.cli as cli; print(cli.__file__)"
    clean = {"PATH": "/usr/bin:/bin"}
    where = subprocess.run(
        [environment / "bin" / "python", "-P", "-c", code], env=clean, cwd=environment, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(environment)
    done = subprocess.run([program, "init", "--source", environment / "c"], env=clean, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
