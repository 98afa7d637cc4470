"""`connectorctl proxy`."""

import os
import socket
import sys
from pathlib import Path

import pytest

from connectorctl.commands import proxy
from lab.ports import Port
from lab.process import Process
from tests.connectorctl.typed import Type

ROOT = Path(__file__).parents[3]
START_TIMEOUT = 60.0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What it would have become."""
    lines: list[list[str]] = []
    monkeypatch.setattr(proxy, "exec_program", lines.append)
    # What else this machine runs is nobody's business here.
    monkeypatch.setattr(proxy, "check_listen_address", lambda listen: None)
    return lines


@pytest.mark.parametrize(
    ("line", "program", "rest"),
    [
        pytest.param("proxy", "mitmdump", ["--set", "connector_source=connectors"], id="nothing is named"),
        pytest.param(
            "proxy here --confdir c --in mitmweb",
            "mitmweb",
            ["--set", "connector_source=here", "--set", "confdir=c"],
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
def test_it_becomes_mitmproxy_with_the_addons(
    typed: Type, connectors: Path, place: Path, started: list[list[str]], line: str, program: str, rest: list[str]
) -> None:
    (place / "here").mkdir()
    assert typed(line) == (0, "", "")
    addons = ["-s", str(ROOT / "addons" / "connector.py")]
    listen = ["--listen-host", "127.0.0.1", "--listen-port", "8080"]
    assert started == [[str(Path(sys.executable).with_name(program)), *addons, *listen, *rest]]


def test_where_it_listens_can_be_chosen(typed: Type, connectors: Path, started: list[list[str]]) -> None:
    typed("proxy --listen [::1]:81")
    assert started[0][3:7] == ["--listen-host", "::1", "--listen-port", "81"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param("proxy absent", 1, "absent: is not there; make it with: connectorctl init absent", id="no folder"),
        pytest.param("proxy --listen 8080", 1, "--listen: is not HOST:PORT", id="a port alone"),
        pytest.param("proxy --listen x:99999", 1, "--listen: is not HOST:PORT", id="a port that there is not"),
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
        pytest.param("proxy --in squid", 2, "'mitmdump', 'mitmweb', 'mitmproxy'", id="another program"),
    ],
)
def test_what_cannot_start_is_said_before(
    typed: Type, connectors: Path, place: Path, started: list[list[str]], line: str, code: int, message: str
) -> None:
    (place / "file").touch()
    done = typed(line)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert started == []


def test_a_port_that_is_taken_is_said_before(typed: Type, connectors: Path) -> None:
    port = Port()
    with socket.create_server(("127.0.0.1", port.number)):
        done = typed(f"proxy --confdir confdir --listen 127.0.0.1:{port.number}")
    assert (done.code, done.out) == (1, "")
    said = (
        f"error: --listen: cannot listen at 127.0.0.1:{port.number}: Address already in use; name another HOST:PORT\n"
    )
    assert done.err == said


def test_a_port_that_is_free_stays_free() -> None:
    port = Port()
    proxy.check_listen_address(f"127.0.0.1:{port.number}")
    proxy.check_listen_address(f"192.0.2.1:{port.number}")
    with socket.create_server(("127.0.0.1", port.number)):
        pass


def test_addons_that_are_not_installed_are_said(typed: Type, connectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_ADDON_MODULE", "absent_package")
    assert "absent_package: is not installed" in typed("proxy").err


@pytest.mark.slow
def test_it_starts_from_anywhere_and_writes_no_keys_of_sessions(connectors: Path, place: Path) -> None:
    port, admin = Port(), Port()
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("connectorctl"), "proxy", "--confdir", "c"),
        *("--listen", f"127.0.0.1:{port.number}", "--", "--set", f"connector_admin=127.0.0.1:{admin.number}"),
    ]
    process = Process(command, log=place / "log", environment={**os.environ, "SSLKEYLOGFILE": str(place / "keys")})
    process.start()
    try:
        process.wait_until((place / "c" / "mitmproxy-ca-cert.pem").is_file, timeout=START_TIMEOUT)
        process.wait_until(lambda: answers(port.number), timeout=START_TIMEOUT)
    finally:
        process.stop()
    assert not (place / "keys").exists()


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            return True
    except ConnectionRefusedError:
        return False
