"""`connectorctl page`: the ports that it forwards, and the browser that it opens."""

import asyncio
import socket
import struct
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

from connector_store.sessions_file import write_url
from tests.connectorctl.cli_result import RunCli, RunInCluster
from tests.connectorctl.fake_pods import FakePage, FakePods, answer, row

INTERRUPTED = 130
GET = b"GET /sessions HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Browser:
    """Browser that visits `visit(url)` and keeps what it returns. The last of `count` visits ends the command."""

    def __init__(self, count: int, visit: Callable[[str], bytes]) -> None:
        self.urls: list[str] = []
        self.results: list[bytes] = []
        self._count = count
        self._visit = visit

    def open(self, url: str) -> bool:
        self.urls.append(url)
        self.results.append(self._visit(url))
        if len(self.urls) == self._count:
            raise KeyboardInterrupt
        return True


def get_sessions(url: str) -> bytes:
    """Get the sessions, on a connection of its own."""
    with urllib.request.urlopen(url + "sessions", timeout=120) as response:  # noqa: S310 - a port of this test
        body: bytes = response.read()
        return body


def connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").strip("/").partition(":")
    return socket.create_connection((host, int(port)), timeout=120)


def get_nothing(url: str) -> bytes:
    """Return what the port says before it closes or resets the connection."""
    with connect(url) as connection:
        try:
            connection.sendall(GET)
            return connection.recv(1000)
        except ConnectionError:
            # The port closes it without reading a request that arrives later.
            return b""


async def test_each_proxy_has_a_port_of_this_machine(
    run_in_cluster: RunInCluster, pods: FakePods, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(2, get_sessions)
    monkeypatch.setattr(webbrowser, "open", browser.open)
    async with FakePage(answer(row(1))) as one, FakePage(answer(row(2))) as two:
        pods.ports = {"proxy-b": two.port, "proxy-a": one.port}
        code, out, err = await run_in_cluster("page")
    assert code == INTERRUPTED
    assert out.splitlines() == browser.urls
    assert err.splitlines()[:2] == ["proxy proxy-a:", "proxy proxy-b:"]
    assert [b"ci:1" in browser.results[0], b"ci:2" in browser.results[1]] == [True, True]


async def test_the_port_serves_while_the_browser_is_open(
    run_in_cluster: RunInCluster, pods: FakePods, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(1, lambda url: get_sessions(url) + get_sessions(url))
    monkeypatch.setattr(webbrowser, "open", browser.open)
    async with FakePage(answer(row(1))) as page:
        pods.ports = {"proxy-a": page.port}
        assert (await run_in_cluster("page")).code == INTERRUPTED
    assert browser.results[0].count(b"ci:1") == 2


@pytest.mark.parametrize(
    ("forbidden", "message"),
    [
        pytest.param(False, "the port-forward failed: connection refused", id="a pod without a listener"),
        pytest.param(True, "the API server refused a WebSocket: Forbidden", id="a caller without the right"),
    ],
)
async def test_a_port_forward_that_fails_is_named_and_closes_the_connection(
    run_in_cluster: RunInCluster, pods: FakePods, monkeypatch: pytest.MonkeyPatch, forbidden: bool, message: str
) -> None:
    browser = Browser(1, get_nothing)
    monkeypatch.setattr(webbrowser, "open", browser.open)
    pods.ports, pods.forbidden = {"proxy-a": None}, forbidden
    code, _, err = await run_in_cluster("page")
    assert code == INTERRUPTED
    assert browser.results == [b""]
    assert f"proxy proxy-a: {message}" in err


def get_first_bytes(url: str) -> bytes:
    """Return the first bytes of an answer, and reset the connection, as a browser does that leaves a page."""
    with connect(url) as connection:
        connection.sendall(GET)
        data = connection.recv(12)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return data + get_sessions(url)


def get_all(url: str) -> bytes:
    """Return everything until the connection ends."""
    with connect(url) as connection:
        connection.sendall(GET)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("visit", "breaks_off"),
    [
        pytest.param(get_first_bytes, False, id="the browser resets its connection"),
        pytest.param(get_all, True, id="the API server drops its connection"),
    ],
)
async def test_the_end_of_a_connection_that_had_an_answer_is_not_reported(
    run_in_cluster: RunInCluster,
    pods: FakePods,
    monkeypatch: pytest.MonkeyPatch,
    visit: Callable[[str], bytes],
    breaks_off: bool,
) -> None:
    browser = Browser(1, visit)
    monkeypatch.setattr(webbrowser, "open", browser.open)
    async with FakePage(answer(row(1), padding="x" * 1_000_000)) as page:
        pods.ports, pods.breaks_off = {"proxy-a": page.port}, breaks_off
        _, _, err = await run_in_cluster("page")
    assert browser.results[0].startswith(b"HTTP/1.1 200")
    assert [line for line in err.splitlines() if "proxy-a" in line] == ["proxy proxy-a:"]


async def test_the_ports_close_at_the_end(
    run_in_cluster: RunInCluster, pods: FakePods, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(1, lambda _: b"")
    monkeypatch.setattr(webbrowser, "open", browser.open)
    pods.ports = {"proxy-a": None}
    await run_in_cluster("page")
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(get_sessions, browser.urls[0])


async def test_without_a_proxy_the_next_step_is_named(run_in_cluster: RunInCluster) -> None:
    code, out, err = await run_in_cluster("page")
    assert (code, out) == (1, "")
    assert "no proxy runs in namespace connectors-system; see: kubectl get pods" in err


@pytest.mark.parametrize(("option", "opened"), [("", 1), (" --no-browser", 0)])
def test_a_folder_means_the_page_of_this_machine(
    run_cli: RunCli, workdir: Path, monkeypatch: pytest.MonkeyPatch, option: str, opened: int
) -> None:
    urls: list[str] = []
    monkeypatch.setattr(webbrowser, "open", urls.append)
    write_url(workdir / "confdir", "http://127.0.0.1:1/#the-secret")
    assert run_cli(f"page --confdir confdir{option}") == (0, "http://127.0.0.1:1/#the-secret\n", "")
    assert urls == ["http://127.0.0.1:1/#the-secret"] * opened


def test_each_proxy_of_this_machine_has_a_page(run_cli: RunCli, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        urls = [f"http://127.0.0.1:{port}/#the-secret" for port in (listener.getsockname()[1], 1)]
        for url in urls:
            write_url(workdir / "confdir", url)
    _, out, _ = run_cli("page --confdir confdir")
    assert sorted(out.split()) == sorted(opened) == sorted(urls)


def test_without_a_proxy_on_this_machine(run_cli: RunCli) -> None:
    code, out, err = run_cli("page --confdir confdir")
    assert (code, out) == (1, "")
    assert "no proxy runs with the confdir confdir; start one: connectorctl proxy" in err
