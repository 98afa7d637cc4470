"""The start as users see it: an error is one line and exit code 1, and the summary is logged once."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from lab.certificates import make_ca
from lab.ports import Port
from lab.process import environment_without_proxies, tie_to_parent
from tests.fakes.manifests import connector, secret, write

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MITMDUMP = Path(sys.executable).with_name("mitmdump")
PATIENCE = 180.0


@pytest.fixture
def port() -> Iterator[int]:
    claimed = Port()
    yield claimed.number
    claimed.release()


@pytest.fixture
def home(tmp_path: Path, confdir: Path) -> Path:
    """Folder of manifests with one usable Connector, and one without its Secret."""
    folder = tmp_path / "connectors"
    folder.mkdir()
    good, bad = connector("good", "https://10.255.255.1"), connector("bad", "https://10.255.255.1", secret="missing")
    write(folder, good, bad, secret(ca=make_ca("a").pem))
    return tmp_path


def command(home: Path, *arguments: str) -> list[str]:
    return [
        str(MITMDUMP), "-s", str(ROOT / "addons" / "connector.py"), "--set", f"confdir={home / 'confdir'}",
        *([] if any("connector_admin" in each for each in arguments) else ["--set", "connector_admin="]),
        "--set", "connector_sessions=", *arguments,
    ]  # fmt: skip


LIKE_OTHERS: Final = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Program that drops root's right to read all files."""


def start(
    home: Path, *arguments: str, environment: Mapping[str, str] = {}, by: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """Return exit code and output lines of a proxy that exits by itself."""
    done = subprocess.run(
        tie_to_parent([*by, *command(home, *arguments)]),
        cwd=home,
        env=environment_without_proxies() | dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


@contextmanager
def running(home: Path, *arguments: str, by: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        tie_to_parent([*by, *command(home, *arguments)]),
        cwd=home,
        env=environment_without_proxies() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"it ended without {text!r}")


def test_a_folder_without_the_right_to_it_is_one_line(home: Path, port: int) -> None:
    folder = home / "connectors"
    folder.chmod(0)
    code, [_, message] = start(home, "-p", str(port), "--set", f"connector_source={folder}", by=LIKE_OTHERS)
    assert code == 1
    right = f"give the proxy's user the right: chmod u+rx {folder}"
    assert message == f"error: connector_source: {folder} cannot be read; {right}"


def test_an_unreadable_folder_is_reported_and_read_again_when_it_is_readable(home: Path, port: int) -> None:
    folder, another = home / "connectors", home / "another"
    shutil.copytree(folder, another)
    another.chmod(0)
    with running(home, "-p", str(port), "--set", f"connector_source={folder}", by=LIKE_OTHERS) as process:
        line_with(process, "serving 1 Connector")
        folder.rename(home / "former")
        another.rename(folder)
        line_with(process, f"{folder}: cannot be watched, so it is read every 0.5 s instead: Permission denied")
        (home / "former").chmod(0)
        (folder / "c.yaml").write_text("kind: [\n")
        folder.chmod(0o755)
        line_with(process, "c.yaml:")
        process.terminate()
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


WRONG: list[tuple[Sequence[str], Mapping[str, str], str]] = [
    (["connector_source=/nope"], {}, "connector_source: /nope is not a folder; make it with: connectorctl init /nope"),
    (["connector_recheck=abc"], {}, "connector_recheck: must be a number of seconds, at most 86400"),
    (["connector_recheck"], {}, "connector_recheck: has no value; write NAME=VALUE"),
    (["connector_recheck=1", "connector_recheck=2"], {}, "connector_recheck: is set twice"),
    (["connector_flows=maybe"], {}, "connector_flows: is not one of: auto, on, off"),
    (["connector_audit_commands=maybe"], {}, "connector_audit_commands: is not true or false"),
    (["connector_admin=banana"], {}, "connector_admin: "),
    (["connector_targets_deny=10.0.0.0/99"], {}, "--set connector_targets_deny: '10.0.0.0/99' does not appear"),
    (["connector_sourc=x"], {}, "connector_sourc: is not an option; did you mean connector_source?"),
    (["connectors_source=x"], {}, "connectors_source: is not an option; did you mean connector_source?"),
    (["ssl_insecure=true"], {}, "ssl_insecure: targets' certificates are always verified"),
    (["proxy_debug=true"], {}, "proxy_debug: it prints what goes on the wire"),
    (["http2=true"], {}, "http2: must stay false"),
    (["upstream_cert=true"], {}, "upstream_cert: must stay false"),
    (["connection_strategy=eager"], {}, "connection_strategy: must stay lazy"),
    (["validate_inbound_headers=false"], {}, "validate_inbound_headers: must stay true"),
    (["mode=socks5"], {}, "mode: socks5 is not served"),
    (["mode=reverse:https://192.0.2.1"], {}, "mode: reverse:https://192.0.2.1 is not served"),
    ([], {"CONNECTORS_DRAIN": "x"}, "environment CONNECTORS_DRAIN: must be a number of seconds"),
    ([], {"CONNECTORS_DRAIM": "3"}, "environment CONNECTORS_DRAIM: is not a setting; did you mean CONNECTORS_DRAIN?"),
]


@pytest.mark.parametrize(("options", "environment", "says"), WRONG, ids=[str(each[2])[:50] for each in WRONG])
def test_a_start_error_is_one_line(
    home: Path, port: int, options: Sequence[str], environment: Mapping[str, str], says: str
) -> None:
    arguments = [part for each in options for part in ("--set", each)]
    code, lines = start(home, "-p", str(port), *arguments, environment=environment)
    assert code == 1
    loading, *message = lines
    assert "Loading script" in loading
    assert len(message) == 1
    assert message[0].startswith(f"error: {says}")


@pytest.mark.parametrize(
    ("options", "environment", "says"),
    [
        pytest.param(["connector_source=kubernetes"], {"KUBECONFIG": "/nope"}, "connector_source: ", id="a kubeconfig"),
        pytest.param(["connector_admin=127.0.0.1:{taken}"], {}, "connector_admin: cannot listen at 127.0.0.1:{taken}: "
                     "address already in use; choose another address with --set connector_admin=HOST:PORT",
                     id="a port for metrics that is taken"),
    ],
)  # fmt: skip
def test_a_later_error_stops_the_proxy_with_one_line_too(
    home: Path, port: int, options: Sequence[str], environment: Mapping[str, str], says: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        arguments = [part for each in options for part in ("--set", each.format(taken=taken))]
        code, lines = start(home, "-p", str(port), *arguments, environment=environment)
    assert code == 1
    assert not any("Traceback" in each for each in lines)
    assert [each for each in lines if says.format(taken=taken) in each and each.endswith("; stopping")] != []


def test_a_port_in_use_is_reported(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        code, lines = start(home, "-p", str(holder.getsockname()[1]))
    assert code == 1
    assert not any("Traceback" in each for each in lines)
    assert any("address already in use" in each for each in lines)


def test_on_a_folder_the_proxy_logs_a_summary_and_listens_on_loopback(home: Path, port: int) -> None:
    with running(home, "-p", str(port)) as process:
        message = line_with(process, "serving ")
        assert (
            "serving 1 Connector of folder connectors; 1 problem to fix (connectorctl check connectors); "
            f"listening at http://127.0.0.1:{port}; for a kubeconfig: connectorctl kubeconfig team-a/good "
            f"--source connectors --confdir {home / 'confdir'} --proxy http://127.0.0.1:{port}; " in message
        )
        assert _listening(process.pid) == {"0100007F"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--listen-host", "0.0.0.0", "-p", "{port}"], id="an address"),  # noqa: S104 - of this test's proxy
        pytest.param(["--mode", "regular@0.0.0.0:{port}"], id="as a mode"),
    ],
)
def test_the_listen_address_can_be_set(home: Path, port: int, arguments: Sequence[str]) -> None:
    with running(home, *(each.format(port=port) for each in arguments)) as process:
        line_with(process, "serving ")
        assert _listening(process.pid) == {"00000000"}


def test_an_interrupt_ends_it_without_a_traceback(home: Path, port: int) -> None:
    with running(home, "-p", str(port)) as process:
        line_with(process, "serving ")
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()
        assert process.wait(PATIENCE) == 0


def _listening(pid: int) -> set[str]:
    """Return the IPv4 addresses at which a process listens, as the kernel writes them: in hexadecimal, reversed."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        # The process can close a descriptor meanwhile.
        with suppress(FileNotFoundError):
            inodes.add(str(each.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


def test_its_log_takes_the_form_of_an_option(home: Path, port: int) -> None:
    with running(home, "-p", str(port), "--set", "connector_log_format=json") as process:
        message = json.loads(line_with(process, "serving "))
    assert message["message"].startswith("serving 1 Connector of folder connectors")
    assert (message["level"], message["logger"]) == ("info", "addons.server.lifecycle")
