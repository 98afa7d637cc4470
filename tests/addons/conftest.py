"""Fixtures: a CA of mitmproxy that is created once, a target, a folder of manifests, and the proxy on it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import uvloop
from mitmproxy.certs import CertStore

from addons.records.record import Record, Recorders
from addons.relay.exchange import Exchange
from connector_store.folder import folder_watch
from connector_store.folder.signing_key import SigningKey
from lab.certificates import KeyPair, make_ca, make_leaf
from tests.cluster.proxy.running_proxy import RunningProxy
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import Proxy, copy_confdir, running_proxy
from tests.fakes.target import FakeTarget


def pytest_asyncio_loop_factories(config: pytest.Config) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use the event loop of mitmdump, or that of `python -m addons`."""
    if config.option.loop == "uvloop":
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With uvloop, skip tests whose proxy is a process, because it does not use the event loop of the test."""
    if config.option.loop == "uvloop":
        items[:] = [item for item in items if not runs_a_process(item)]


def runs_a_process(item: pytest.Item) -> bool:
    """Return True if the test runs the proxy as a process: its module has `RunningProxy`, and it uses no `confdir`."""
    if not isinstance(item, pytest.Function):
        return False
    return hasattr(item.module, RunningProxy.__name__) and "confdir" not in item.fixturenames


@pytest.fixture(scope="session")
def confdir_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a confdir with everything that a proxy would otherwise create at each start.

    The CA has an EC key, because checking an RSA key takes 40 ms at each start.
    """
    path = tmp_path_factory.mktemp("mitmproxy")
    ca = make_ca("mitmproxy")
    (path / "mitmproxy-ca.pem").write_bytes(ca.combined_pem)
    (path / "mitmproxy-ca-cert.pem").write_bytes(ca.pem)
    SigningKey.load_or_create(path)
    CertStore.load_dhparam(path / "mitmproxy-dhparam.pem")
    return path


@pytest.fixture
def confdir(confdir_template: Path, tmp_path: Path) -> Path:
    return copy_confdir(confdir_template, tmp_path / "confdir")


@pytest.fixture(scope="session")
def target_ca() -> KeyPair:
    return make_ca("target CA")


@pytest.fixture(scope="session")
def target_certificate(target_ca: KeyPair) -> KeyPair:
    return make_leaf(target_ca, ["127.0.0.1", "localhost"])


@pytest.fixture
async def target(target_certificate: KeyPair) -> AsyncIterator[FakeTarget]:
    async with FakeTarget(target_certificate) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, target: FakeTarget, target_ca: KeyPair) -> Path:
    """Connector team-a/k8s leads to `target`."""
    path = tmp_path / "connectors"
    path.mkdir()
    write(path, connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=target_ca.pem))
    return path


@pytest.fixture
def gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove objects without a file at the next scan, without a grace period."""
    monkeypatch.setattr(folder_watch, "REMOVAL_GRACE", 0.0)


@pytest.fixture
async def flow_proxy(folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows="on") as running:
        yield running


@pytest.fixture
async def proxy(folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir) as running:
        yield running


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """Records of requests and of long-running responses."""
    written: list[Record] = []
    write_record = Exchange._write_record

    def record(self: Exchange, recorders: Recorders, event: Literal["request", "stream"]) -> None:
        write_record(self, (*recorders, written.append), event)

    monkeypatch.setattr(Exchange, "_write_record", record)
    return written


@pytest.fixture
def read_output(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return a function that returns everything that was printed since the test began.

    `capsys.readouterr` reads the output and then removes it. Between the two, the thread of the audit log may print a
    line, which would be lost.
    """

    def read() -> str:
        stdout: Any = sys.stdout  # of pytest; fixtures and tests have different ones
        return str(stdout.getvalue())

    return read
