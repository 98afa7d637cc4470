"""`python -m addons`, the program of the image's proxy: mitmproxy reduced to a service."""

import fcntl
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.ports import Port
from lab.process import environment_without_proxies, tie_to_parent

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0
LEFT_OUT = ("flask", "ldap3", "werkzeug", "pyperclip", "mitmproxy.addons.onboarding")


def command(confdir: Path, *arguments: str, python: Sequence[str] = ()) -> list[str]:
    script = str(ROOT / "addons" / "connector.py")
    return tie_to_parent(
        [sys.executable, *python, "-m", "addons", "--set", f"confdir={confdir}", "-s", script, *arguments]
    )


def test_interactive_addons_are_not_imported(tmp_path: Path, confdir: Path) -> None:
    (tmp_path / "connectors").mkdir(exist_ok=True)
    source = ("--set", f"connector_source={tmp_path / 'connectors'}")
    arguments = command(confdir, *source, "--options", python=["-X", "importtime"])
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment_without_proxies(),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert "connector_max_connections:" in done.stdout
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "mitmproxy.addons.proxyserver" in imported
    assert imported.isdisjoint(LEFT_OUT)


def test_the_proxy_serves_and_shuts_down_in_order(tmp_path: Path, confdir: Path) -> None:
    port = Port()
    (tmp_path / "connectors").mkdir(exist_ok=True)
    source = ("--set", f"connector_source={tmp_path / 'connectors'}", "--set", "connector_admin=")
    arguments = command(confdir, "-p", str(port.number), *source)
    with subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment_without_proxies() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            while "listening at http://127.0.0.1" not in (line := process.stdout.readline()):
                assert line, "it ended"
            with socket.create_connection(("127.0.0.1", port.number), timeout=PATIENCE) as client:
                client.sendall(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 407 ")
            process.send_signal(signal.SIGTERM)
            assert "Traceback" not in process.stdout.read()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    port.release()


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe can be set on Linux alone")
def test_the_proxy_serves_while_its_log_is_not_read(tmp_path: Path, confdir: Path) -> None:
    port = Port()
    (tmp_path / "connectors").mkdir(exist_ok=True)
    source = ("--set", f"connector_source={tmp_path / 'connectors'}", "--set", "connector_admin=")
    arguments = command(confdir, "-p", str(port.number), *source, "--set", "termlog_verbosity=debug")
    with subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment_without_proxies() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            while "listening at http://127.0.0.1" not in (line := process.stdout.readline()):
                assert line, "it ended"
            # Each connection writes a log line.
            for _ in range(100):
                with socket.create_connection(("127.0.0.1", port.number), timeout=PATIENCE) as client:
                    client.sendall(b"\x16this is no TLS")
                    assert len(client.recv(100)) < 100
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    port.release()


def test_the_proxy_uses_libuvs_event_loop(tmp_path: Path, confdir: Path) -> None:
    (tmp_path / "connectors").mkdir(exist_ok=True)
    script = tmp_path / "seen.py"
    script.write_text(
        "import asyncio\n"
        "from mitmproxy import ctx\n"
        "def running():\n"
        "    print('on', type(asyncio.get_running_loop()).__module__, flush=True)\n"
        "    ctx.master.shutdown()\n"
    )
    port = Port()
    source = ("--set", f"connector_source={tmp_path / 'connectors'}", "--set", "connector_admin=")
    arguments = command(confdir, "-p", str(port.number), *source, "-s", str(script))
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment_without_proxies(),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert "on uvloop" in done.stdout
    port.release()


def test_a_start_error_is_one_line_as_in_mitmdump(tmp_path: Path, confdir: Path) -> None:
    arguments = command(confdir, "--set", "connector_recheck=abc")
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment_without_proxies(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert done.stderr == "error: connector_recheck: must be a number of seconds, at most 86400\n"


@pytest.mark.parametrize("has_other_script", [False, True])
def test_without_the_proxys_script_it_says_so_and_exits(tmp_path: Path, confdir: Path, has_other_script: bool) -> None:
    other_script = tmp_path / "connector.py"
    other_script.touch()
    port = Port()
    done = subprocess.run(
        tie_to_parent(
            [sys.executable, "-m", "addons", "--set", f"confdir={confdir}", "-p", str(port.number)]
            + (["-s", str(other_script)] if has_other_script else [])
        ),
        cwd=ROOT,
        env=environment_without_proxies(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    port.release()
    script = ROOT / "addons" / "connector.py"
    assert done.returncode == 1
    assert done.stderr == f"error: the addons of the proxy are not loaded; add the argument: -s {script}\n"
    assert "listening" not in done.stdout


def test_the_log_is_json_from_the_first_line_without_a_terminal(tmp_path: Path, confdir: Path) -> None:
    (tmp_path / "connectors").mkdir(exist_ok=True)
    port = Port()
    source = ("--set", f"connector_source={tmp_path / 'connectors'}", "--set", "connector_admin=")
    environment = environment_without_proxies() | {"PYTHONUNBUFFERED": "1", "CONNECTORS_LOG_FORMAT": "auto"}
    with subprocess.Popen(
        command(confdir, "-p", str(port.number), *source), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline())]
            while not lines[-1]["message"].startswith("serving "):
                lines.append(json.loads(process.stdout.readline()))
        finally:
            process.kill()
    port.release()
    assert lines[0]["message"].startswith("Loading script")
    assert {each["level"] for each in lines} == {"info"}
