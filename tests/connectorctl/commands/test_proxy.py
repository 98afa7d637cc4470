"""`connectorctl proxy`."""

import os
import socket
import sys
from pathlib import Path

import pytest

from connectorctl import proxy_program
from connectorctl.commands import proxy
from lab.ports import Port
from lab.process import Process
from tests.connectorctl.cli_result import RunCli

ROOT = Path(__file__).parents[3]
START_TIMEOUT = 180.0


WEB_COLUMNS = [
    part for option in proxy_program.PROGRAM_OPTIONS["mitmweb"] for part in ("--set", option)
]  # fmt: skip


@pytest.fixture
def command_lines(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines that would have replaced the process."""
    lines: list[list[str]] = []
    monkeypatch.setattr(proxy, "exec_program", lines.append)
    # Other programs on this machine must not affect the tests.
    monkeypatch.setattr(proxy, "check_listen_address", lambda listen: None)
    return lines


@pytest.mark.parametrize(
    ("line", "program", "arguments"),
    [
        pytest.param("proxy", "mitmdump", ["--set", "connector_source=connectors"], id="no arguments"),
        pytest.param(
            "proxy here --confdir c --in mitmweb",
            "mitmweb",
            ["--set", "connector_source=here", "--set", "confdir=c", *WEB_COLUMNS],
            id="a folder, a confdir and a program",
        ),
        pytest.param(
            "proxy here -- --set connector_recheck=5",
            "mitmdump",
            ["--set", "connector_source=here", "--set", "connector_recheck=5"],
            id="arguments of mitmproxy",
        ),
        pytest.param(
            "proxy -- -v", "mitmdump", ["--set", "connector_source=connectors", "-v"], id="arguments without a folder"
        ),
        pytest.param("proxy kubernetes:x", "mitmdump", ["--set", "connector_source=kubernetes:x"], id="a cluster"),
    ],
)
def test_the_process_is_replaced_by_mitmproxy_with_the_addons(
    run_cli: RunCli,
    connectors: Path,
    workdir: Path,
    command_lines: list[list[str]],
    line: str,
    program: str,
    arguments: list[str],
) -> None:
    (workdir / "here").mkdir()
    assert run_cli(line) == (0, "", "")
    addons = ["-s", str(ROOT / "addons" / "connector.py")]
    listen = ["--listen-host", "127.0.0.1", "--listen-port", "8080"]
    assert command_lines == [[str(Path(sys.executable).with_name(program)), *addons, *listen, *arguments]]


def test_the_listen_address_can_be_chosen(run_cli: RunCli, connectors: Path, command_lines: list[list[str]]) -> None:
    run_cli("proxy --listen [::1]:81")
    assert command_lines[0][3:7] == ["--listen-host", "::1", "--listen-port", "81"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param(
            "proxy absent",
            1,
            'folder "absent" does not exist; create it with: connectorctl init absent',
            id="no folder",
        ),
        pytest.param("proxy --listen 8080", 1, "--listen: is not HOST:PORT", id="a port alone"),
        pytest.param("proxy --listen x:99999", 1, "--listen: is not HOST:PORT", id="an invalid port"),
        pytest.param(
            "proxy --confdir file/keys",
            1,
            "--confdir: file/keys cannot be written: Not a directory",
            id="no folder for keys",
        ),
        pytest.param(
            "proxy --confdir /proc/keys",
            1,
            "--confdir: /proc/keys cannot be written: ",
            id="a folder that is read only",
        ),
        pytest.param(
            "proxy connectors --in mitmproxy", 1, "--in mitmproxy: needs a terminal", id="mitmproxy without a terminal"
        ),
        pytest.param("proxy --in squid", 2, "'mitmdump', 'mitmweb', 'mitmproxy'", id="another program"),
    ],
)
def test_a_wrong_start_is_reported_before(
    run_cli: RunCli, connectors: Path, workdir: Path, command_lines: list[list[str]], line: str, code: int, message: str
) -> None:
    (workdir / "file").touch()
    result = run_cli(line)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert command_lines == []


def test_a_port_in_use_is_reported_before(run_cli: RunCli, connectors: Path) -> None:
    port = Port()
    with socket.create_server(("127.0.0.1", port.number)):
        result = run_cli(f"proxy --confdir confdir --listen 127.0.0.1:{port.number}")
    assert (result.code, result.out) == (1, "")
    message = (
        f"error: --listen: cannot listen at 127.0.0.1:{port.number}: Address already in use; name another HOST:PORT\n"
    )
    assert result.err == message


def test_the_check_leaves_a_free_port_free() -> None:
    port = Port()
    proxy.check_listen_address(f"127.0.0.1:{port.number}")
    proxy.check_listen_address(f"192.0.2.1:{port.number}")
    with socket.create_server(("127.0.0.1", port.number)):
        pass


@pytest.mark.slow
def test_the_proxy_starts_and_writes_no_session_keys(connectors: Path, workdir: Path) -> None:
    port, admin = Port(), Port()
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("connectorctl"), "proxy", "--confdir", "c"),
        *("--listen", f"127.0.0.1:{port.number}", "--", "--set", f"connector_admin=127.0.0.1:{admin.number}"),
    ]
    process = Process(command, log=workdir / "log", environment={**os.environ, "SSLKEYLOGFILE": str(workdir / "keys")})
    process.start()
    try:
        process.wait_until((workdir / "c" / "mitmproxy-ca-cert.pem").is_file, timeout=START_TIMEOUT)
        process.wait_until(lambda: accepts_connections(port.number), timeout=START_TIMEOUT)
    finally:
        process.stop()
    assert not (workdir / "keys").exists()


def accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=120):
            return True
    except ConnectionRefusedError:
        return False
