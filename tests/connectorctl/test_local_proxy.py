"""A proxy on loopback for one command: what it says when it does not start or refuses, and who may read its log."""

import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl import supervision
from connectorctl.example import write_example
from connectorctl.local_proxy import empty_log, open_private_log, reserved_port, start_local_proxy

KEY = ObjectKey("default", "k8s-connector")


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    with supervision.blocked_signals():
        yield


@pytest.mark.slow
def test_a_refusal_has_the_proxys_sentence_and_the_proxy_is_gone_after_it(connectors: Path, workdir: Path) -> None:
    log = workdir / "log"
    started = start_local_proxy(connectors, confdir=None, log=log)  # the first proxy of this HOME
    with pytest.raises(ParseError, match="the token is not valid, has expired"), started as proxy:
        proxy.wait_until_usable(KEY, "not-a-token")
    assert proxy.process.returncode is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert '"status":401' in log.read_text()


@pytest.mark.slow
def test_a_proxy_that_does_not_start_says_why(workdir: Path) -> None:
    write_example(workdir / "connectors")
    (workdir / "keys").mkdir()
    (workdir / "keys" / "connector-callers-key.pem").write_text("not a key")
    with (
        start_local_proxy(workdir / "connectors", confdir=workdir / "keys", log=workdir / "log") as proxy,
        pytest.raises(ParseError, match=r"the proxy did not start: .*connector-callers-key\.pem"),
    ):
        proxy.wait_until_usable(KEY, "not-a-token")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot reserve a port for another process")
def test_only_a_server_that_knows_the_reserved_port_gets_it() -> None:
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    for text in (b"a", b"b"):
        with open_private_log(tmp_path / "log") as log:
            log.write(text)
    assert (tmp_path / "log").read_bytes() == b"ab"


def test_a_log_is_emptied_while_it_is_written(tmp_path: Path) -> None:
    empty_log(tmp_path / "log")
    with open_private_log(tmp_path / "log") as log:
        log.write(b"old")
        log.flush()
        empty_log(tmp_path / "log")
        log.write(b"new")
    assert (tmp_path / "log").read_bytes() == b"new"
