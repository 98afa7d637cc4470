"""The commands as processes see them: stdout, stderr, exit codes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from connectorctl import cli
from connectorctl.proxy_ca import CA_FILE
from lab.certificates import make_ca

NAME = "default/k8s-connector"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a proxy's confdir in it."""
    (tmp_path / "confdir").mkdir()
    (tmp_path / "confdir" / CA_FILE).write_bytes(make_ca().pem)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connectors(place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    run("init")
    capsys.readouterr()
    return place / "connectors"


def run(line: str, *, plugin: bool = False, environ: dict[str, str] | None = None) -> int:
    return cli.run(line.split(), plugin=plugin, environ=environ or {})


def test_init_then_check(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init") == 0
    assert run("check") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "wrote connectors/k8s-connector.yaml" in err
    assert "1 of 1 Connectors can be used" in err


def test_init_does_not_overwrite(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init") == 1
    assert capsys.readouterr().err == "error: connectors/k8s-connector.yaml: File exists\n"


def test_check_of_a_broken_folder_is_1_and_names_it(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (connectors / "b.yaml").write_text("a: ]")
    assert run("check connectors") == 1
    assert capsys.readouterr().out.startswith("connectors/b.yaml:1: is not YAML")


def test_a_kubeconfig_goes_to_stdout(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"kubeconfig {NAME} --confdir confdir") == 0
    out, err = capsys.readouterr()
    config = yaml.safe_load(out)
    assert err == ""
    assert config["clusters"][0]["cluster"]["proxy-url"].startswith("http://default%2Fk8s-connector:eyJ")
    assert "REPLACE" not in out


def test_a_kubeconfig_goes_to_a_private_file(connectors: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"kubeconfig {NAME} --confdir confdir -o kubeconfig") == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "wrote kubeconfig\n")
    assert stat.S_IMODE((place / "kubeconfig").stat().st_mode) == 0o600
    assert yaml.safe_load((place / "kubeconfig").read_text())["kind"] == "Config"


def test_a_rotating_kubeconfig_has_its_token_beside_it(connectors: Path, place: Path) -> None:
    assert run(f"kubeconfig {NAME} --confdir confdir --rotating -o kubeconfig") == 0
    config = yaml.safe_load((place / "kubeconfig").read_text())
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}
    assert (place / "context.token").read_text().startswith("eyJ")
    assert stat.S_IMODE((place / "context.token").stat().st_mode) == 0o600


def test_a_token_is_one_line(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"token {NAME} --confdir confdir") == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), out.count("."), err) == (1, 2, "")


def test_status_is_a_table(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [NAME, "https://192.168.1.100:6443", "yes"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param("token default/absent", 1, '"absent" not found', id="a Connector that is not there"),
        pytest.param(f"token {NAME} --ttl 25h --confdir confdir", 1, "ttl: not between", id="a token for too long"),
        pytest.param(f"kubeconfig {NAME} --confdir nowhere", 1, "start the proxy once", id="a proxy that never ran"),
        pytest.param(f"kubeconfig {NAME} --confdir confdir --proxy x", 1, "http://HOST:PORT", id="a proxy of no URL"),
        pytest.param(
            f"kubeconfig {NAME} --confdir confdir -o absent/f", 1, "No such file or directory", id="a folder missing"
        ),
        pytest.param(f"token {NAME} --source kubernetes", 2, "--service-account", id="a flag is missing"),
        pytest.param("status --source absent", 1, "is not a folder", id="a folder that is not there"),
        pytest.param("status --kubeconfig absent", 1, "kubeconfig absent not found", id="a kubeconfig missing"),
    ],
)
def test_a_failure_has_its_code_and_says_why(
    connectors: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, message: str
) -> None:
    assert run(line) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_settings_come_from_the_environment(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", environ={"CONNECTORS_DRAIN": "soon"}) == 1
    assert "CONNECTORS_DRAIN" in capsys.readouterr().err


def test_the_plugin_asks_a_cluster(
    connectors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "absent")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert run("status", plugin=True) == 1
    assert "no access to an API server" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["connectorctl", "kubectl-connector"])
def test_both_names_are_installed_and_run(connectors: Path, place: Path, program: str) -> None:
    command = [str(Path(sys.executable).with_name(program)), "token", NAME, "--source", "connectors", "--confdir", "c"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("eyJ")


def test_a_folder_needs_no_code_of_clusters(connectors: Path) -> None:
    script = (
        "import os, sys; from connectorctl.cli import run; "
        "code = run(['status'], plugin=False, environ=os.environ); "
        "heavy = {'kubernetes', 'aiohttp', 'grpc', 'mitmproxy'} & set(sys.modules); "
        "sys.exit(code or (3 if heavy else 0))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "KUBERNETES_SERVICE_HOST"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
