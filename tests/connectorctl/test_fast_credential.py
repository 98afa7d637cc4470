"""The path that kubectl runs for each command: the same result as the full command, with few imports."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import jwt
import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.folder.signing_key import SigningKey
from connectorctl.exec_plugin import make_oidc_plugin, make_plugin
from connectorctl.fast_credential import print_credential
from connectorctl.oidc_token import parse_token_provider
from connectorctl.option_values import CallerOptions, SourceOptions
from tests.connectorctl.cli_result import RunCli
from tests.fakes.tls_api_server import TlsApiServer

KEY = ObjectKey("default", "k8s-connector")
MAX_MODULES = 180
"""Maximum number of modules that the path imports, with those of the interpreter: today 95, 139 and 162."""
HEAVY = {
    "aiohttp",
    "asyncio",
    "click",
    "jwt",
    "kubernetes",
    "mitmproxy",
    "subprocess",
    "urllib.request",
    "yaml",
}
MEASURE = """
import os, sys
pid = os.fork()
if pid == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Program that runs another one and prints its cost. It is small, because the size of a process before exec counts."""
MAX_PAIRS = 40
"""Maximum number of measurements."""
BASE = [sys.executable, "-c", "import json, ssl, http.client"]


def folder_arguments() -> list[str]:
    options = CallerOptions(confdir=Path("keys"))
    return arguments_of(make_plugin(SourceOptions(), options, is_cluster=False)(KEY))


def oidc_arguments() -> list[str]:
    plugin = make_oidc_plugin(parse_token_provider("file:token"), "connectors")
    return arguments_of(plugin(KEY))


def cluster_arguments() -> list[str]:
    options = CallerOptions(service_account=ObjectKey("ci", "robot"))
    source = SourceOptions(kubeconfig="config")
    return arguments_of(make_plugin(source, options, is_cluster=True)(ObjectKey("a", "k8s")))


@pytest.fixture
def server(workdir: Path) -> Iterator[TlsApiServer]:
    """API server that the kubeconfig `config` names."""
    with TlsApiServer().serving() as each:
        (workdir / "ca.crt").write_bytes(each.ca.pem)
        (workdir / "config").write_text(each.kubeconfig({"token": "t"}))
        yield each


def arguments_of(exec_config: Mapping[str, object]) -> list[str]:
    """Return the arguments after `credential`."""
    arguments = exec_config["args"]
    assert isinstance(arguments, list)
    return arguments[1:]


def test_the_arguments_of_a_folders_kubeconfig_are_handled(
    connectors: Path, workdir: Path, capsys: pytest.CaptureFixture[str], run_cli: RunCli
) -> None:
    assert print_credential(folder_arguments(), {}) == 0
    status = json.loads(capsys.readouterr().out)["status"]
    full = json.loads(run_cli("credential " + " ".join(folder_arguments())).out)["status"]
    public_key = SigningKey.load_or_create(workdir / "keys").public_key
    claims = [jwt.decode(each["token"], public_key, ["ES256"], audience="connectors-proxy") for each in (status, full)]
    changing = {"iat", "exp", "jti"}
    assert [{name: value for name, value in each.items() if name not in changing} for each in claims] == [
        {"iss": "kubernetes-connector", "aud": "connectors-proxy", "sub": str(KEY)}
    ] * 2
    assert {each["exp"] - each["iat"] for each in claims} == {1800}
    assert "expirationTimestamp" in status


def test_the_arguments_of_an_oidc_kubeconfig_are_handled(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workdir / "token").write_text("a.b.c")
    assert print_credential(oidc_arguments(), {}) == 0
    assert json.loads(capsys.readouterr().out)["status"] == {"token": "a.b.c"}


def test_the_arguments_of_a_clusters_kubeconfig_are_handled(
    server: TlsApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_credential(cluster_arguments(), {}) == 0
    assert json.loads(capsys.readouterr().out)["status"] == {"token": "a.b.c"}
    assert server.audiences == ["own"]


def test_a_refusal_of_the_cluster_is_reported(
    server: TlsApiServer, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_credential(["a/absent", *cluster_arguments()[1:]], {}) == 1
    assert capsys.readouterr() == ("", 'error: connectors "x" not found\n')
    (workdir / "config").write_text(server.kubeconfig({"username": "u", "password": "p"}))
    assert print_credential(cluster_arguments(), {}) is None
    assert print_credential(cluster_arguments(), {"CONNECTORS_AUDIENCE": "x"}) is None


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="none"),
        pytest.param(["default/k8s"], id="a name alone"),
        pytest.param(["default/k8s", "--source", "connectors", "--ttl", "60s"], id="a relative folder"),
        pytest.param(["default/k8s", "--source", "kubernetes", "--ttl", "60s"], id="a cluster"),
        pytest.param(["default/k8s", "--source", "/c", "--ttl", "30m"], id="another unit"),
        pytest.param(["default/k8s", "--source", "/c", "--ttl", "60s", "--service-account", "a/b"], id="an account"),
        pytest.param(["--oidc", "file:x"], id="no audience"),
        pytest.param(["--help"], id="help"),
    ],
)
def test_other_arguments_need_the_full_command(arguments: list[str]) -> None:
    assert print_credential(arguments, {}) is None


@pytest.mark.parametrize("name", ["CONNECTORS_AUDIENCE", "CONNECTORCTL_CONFDIR"])
def test_settings_of_the_environment_need_the_full_command(workdir: Path, name: str) -> None:
    assert print_credential(folder_arguments(), {name: "x"}) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--oidc", "file:/absent", "--audience", "x"], "error: /absent: No such file or directory\n"),
        (["default", "--source", "/c", "--ttl", "60s"], "error: not of the form NAMESPACE/NAME\n"),
        (["a/b", "--source", "/c", "--ttl", "90000s"], "error: ttl: not between 1 s and 86400 s\n"),
    ],
)
def test_a_failure_says_why(
    workdir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert print_credential(arguments, {}) == 1
    assert capsys.readouterr() == ("", message)


def test_a_closed_stdout_is_reported(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "token").write_text("a.b.c")
    monkeypatch.setattr(sys, "stdout", None)
    assert print_credential(oidc_arguments(), {}) == 1
    assert capsys.readouterr().err == "error: stdout: is closed\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "also_heavy", "needed"),
    [
        (folder_arguments, set(), set()),
        (oidc_arguments, {"cryptography", "dataclasses"}, set()),
        (cluster_arguments, {"cryptography", "dataclasses", "logging"}, {"yaml"}),
    ],
)
def test_few_modules_are_imported(
    server: TlsApiServer, workdir: Path, arguments: object, also_heavy: set[str], needed: set[str]
) -> None:
    """The interpreter's own modules count, too. Only a folder's token needs `cryptography`, for its signature."""
    (workdir / "token").write_text("a.b.c")
    SigningKey.load_or_create(workdir / "keys")
    script = (
        "import sys; from connectorctl.__main__ import main\n"
        "try: main()\nexcept SystemExit as e: assert e.code == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    assert callable(arguments)
    done = subprocess.run([sys.executable, "-c", script, "credential", *arguments()], capture_output=True, text=True)
    modules = set(done.stderr.split())
    assert "connectorctl.fast_credential" in modules
    assert modules & (HEAVY | also_heavy) == needed
    assert len(modules) < MAX_MODULES


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(folder_arguments, id="a folder"),
        pytest.param(oidc_arguments, id="an OIDC token"),
        pytest.param(cluster_arguments, id="a cluster, with two requests and YAML"),
    ],
)
def test_a_token_costs_little_more_than_python(server: TlsApiServer, workdir: Path, arguments: object) -> None:
    """At most twice the CPU time and 1.5 times the memory of an interpreter with json, ssl and http.client.

    Both run in turns. On a busy machine, single runs take more CPU time, so one pair within the limits is enough.
    """
    (workdir / "token").write_text("a.b.c")
    SigningKey.load_or_create(workdir / "keys")
    assert callable(arguments)
    program = [str(Path(sys.executable).with_name("connectorctl")), "credential", *arguments()]
    ratios = []
    for _ in range(MAX_PAIRS):
        base, own = cost(BASE), cost(program)
        ratios.append((own[0] / base[0], own[1] / base[1]))
        if ratios[-1][0] <= 2 and ratios[-1][1] <= 1.5:
            return
    pytest.fail(f"CPU time and memory, as multiples of those of Python: {ratios}")


def cost(command: list[str]) -> tuple[float, int]:
    """Return the CPU seconds and the resident kB of a run."""
    done = subprocess.run([sys.executable, "-IS", "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    seconds, size = done.stdout.split()
    return float(seconds), int(size)
