"""mitmproxy's listening sockets in our hands: nothing is lost on the way, and they are listened on for good."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from addons.server import listeners
from addons.server.listeners import Listeners
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.waiting import until


def servers(proxy: Proxy) -> list[asyncio.AbstractServer]:
    return [each for instance in proxy.master.addons.get("proxyserver").servers for each in instance._servers]


async def answer_at(host: str, port: int) -> bytes:
    """Return the status line for an unauthenticated client. Connect again if the socket was not taken over yet."""
    line = b""
    while not line:
        reader, writer = await asyncio.open_connection(host, port)
        with contextlib.suppress(ConnectionError):
            writer.write(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
            line = await reader.readline()
        writer.transport.abort()
    return line


async def test_clients_of_mitmproxys_port_are_not_served_by_mitmproxy(proxy: Proxy) -> None:
    stream = await proxy.open()
    await until(lambda: proxy.connection_count == 1)
    assert proxy.master.addons.get("proxyserver").connections == {}
    stream.close()


async def test_all_families_are_listened_on(folder: Path, confdir: Path) -> None:
    async with running_proxy(folder, confdir) as proxy:
        addresses = proxy.master.addons.get("proxyserver").listen_addrs
        proxy.master.options.update(listen_host="", mode=["regular@0"])  # the host alone has no effect until a restart
        await until(lambda: "0.0.0.0" in {host for host, *_ in addresses()})  # noqa: S104 - where it must listen
        await until(lambda: len(servers(proxy)) == len(addresses()))
        for host, port, *_ in addresses():
            assert (await answer_at("::1" if ":" in host else "127.0.0.1", port)).startswith(b"HTTP/1.1 407 ")


async def test_where_mitmproxy_listens_elsewhere_clients_are_served_there(proxy: Proxy) -> None:
    before = proxy.port
    proxy.master.options.update(mode=["regular@127.0.0.1:0"])
    place = proxy.master.addons.get("proxyserver").listen_addrs
    await until(lambda: place() and place()[0][1] != before)
    assert (await answer_at(*place()[0])).startswith(b"HTTP/1.1 407 ")


async def test_sockets_are_taken_over_once(proxy: Proxy) -> None:
    before = servers(proxy)
    await proxy.master.addons.get("proxyserver").servers.changed.send()
    assert servers(proxy) == before


async def test_a_server_that_mitmproxy_stops_during_the_takeover_does_not_listen(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxyserver = proxy.master.addons.get("proxyserver")
    replace = Listeners._replace
    replaced: list[asyncio.AbstractServer] = []

    async def replace_and_stop(self: Listeners, server: Any, instance: Any) -> list[Any]:
        replaced.extend(await replace(self, server, instance))
        await proxyserver.servers.update([])
        return replaced

    await proxyserver.servers.update([])
    monkeypatch.setattr(Listeners, "_replace", replace_and_stop)
    await proxyserver.setup_servers()
    assert [server.is_serving() for server in replaced] == [False]


async def test_a_socket_that_the_event_loop_closed_is_replaced(
    folder: Path, confdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listeners, "POLL_INTERVAL", 0.01)
    async with running_proxy(folder, confdir) as proxy:
        place = proxy.master.addons.get("proxyserver").listen_addrs
        for server in servers(proxy):
            server.close()
        await until(lambda: "listening again" in caplog.text and place())
        assert (await answer_at(*place()[0])).startswith(b"HTTP/1.1 407 ")
