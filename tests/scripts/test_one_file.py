"""connectorctl as one file: built twice alike, and run by each Python that is here, without any other package."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from connector_store.version import VERSION
from lab.certificates import make_ca
from tests.fakes.tls_api_server import TlsApiServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PYENV = Path("~/.pyenv/versions").expanduser()
BASE = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
"""Interpreter of the tests without their packages."""
PYTHONS = {BASE, *(str(each) for minor in (12, 13, 14) for each in PYENV.glob(f"3.{minor}.*/bin/python3.{minor}"))}
TARGET = ["--oidc", "file:token", "--proxy", "https://proxy.example.com", "--ca", "ca.crt"]


def build(path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "one_file.py", path], check=True, timeout=180)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the program, a CA, and the token of a job."""
    folder = tmp_path_factory.mktemp("one file")
    build(folder / "connectorctl")
    (folder / "ca.crt").write_bytes(make_ca().pem)
    (folder / "token").write_text("a.b.c")
    return folder


def run(folder: Path, python: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-I", str(folder / "connectorctl"), *words]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def test_the_same_sources_give_the_same_file_with_its_checksum(folder: Path, tmp_path: Path) -> None:
    build(tmp_path / "connectorctl")
    content = (tmp_path / "connectorctl").read_bytes()
    assert content == (folder / "connectorctl").read_bytes()
    checksum = (tmp_path / "connectorctl.sha256").read_text()
    assert checksum == f"{hashlib.sha256(content).hexdigest()}  connectorctl\n"


def test_it_has_no_compiled_parts_and_none_of_the_proxy(folder: Path) -> None:
    names = zipfile.ZipFile(folder / "connectorctl").namelist()
    assert {name.partition("/")[0] for name in names} == {
        "__main__.py", "click", "connector_store", "connectorctl", "yaml"
    }  # fmt: skip
    assert {Path(name).suffix for name in names} == {".py"}


@pytest.mark.parametrize("python", sorted(PYTHONS))
def test_a_job_needs_no_other_package(folder: Path, python: str) -> None:
    assert run(folder, python, "version").stdout == f"connectorctl {VERSION}\n"
    made = run(folder, python, "kubeconfig", "team-a/k8s", *TARGET)
    plugin = yaml.safe_load(made.stdout)["users"][0]["user"]["exec"]
    assert plugin["command"] == str(folder / "connectorctl")
    assert '"token": "a.b.c"' in run(folder, python, *plugin["args"]).stdout
    script = 'cat "$(dirname "$KUBECONFIG")/context.token"; exit 3'
    done = run(folder, python, "run", "team-a/k8s", *TARGET, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (3, "a.b.c", "")
    (folder / "kubeconfig").write_text(made.stdout)
    examined = run(folder, python, "doctor", "kubeconfig", "-o", "yaml")
    results = {step["check"]: step["result"] for step in yaml.safe_load(examined.stdout)["steps"]}
    assert (results["kubeconfig"], results["proxy reachable"]) == ("ok", "failed")


@pytest.mark.parametrize("python", sorted(PYTHONS))
def test_a_cluster_gives_a_token_without_other_packages(folder: Path, python: str) -> None:
    with TlsApiServer().serving() as server:
        (folder / "api.kubeconfig").write_text(server.kubeconfig({"token": "t"}))
        (folder / "ca.crt").write_bytes(server.ca.pem)
        source = ["a/k8s", "--kubeconfig", "api.kubeconfig", "--service-account", "ci/robot"]
        assert run(folder, python, "token", *source).stdout == "a.b.c\n"
        assert '"token": "a.b.c"' in run(folder, python, "credential", *source).stdout
        script = 'cat "$(dirname "$KUBECONFIG")/context.token"; exit 3'
        done = run(folder, python, "run", *source, "--", "sh", "-c", script)
        assert (done.returncode, done.stdout, done.stderr) == (3, "a.b.c", "")


def test_other_commands_say_what_to_install(folder: Path) -> None:
    done = run(folder, BASE, "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "which this file does not have; install all of connectorctl: docs/install.md#connectorctl\n"
    )
    assert run(folder, BASE, "--help").returncode == 0


def test_an_older_python_is_told_what_it_needs(folder: Path) -> None:
    main = zipfile.ZipFile(folder / "connectorctl").read("__main__.py").decode()
    older = main.replace("sys.version_info", "(3, 11, 0)")
    with pytest.raises(SystemExit, match=r"connectorctl needs Python 3\.12 or newer, and this is 3\.11"):
        exec(older, {})  # noqa: S102 - our own text
