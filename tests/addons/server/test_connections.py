"""Nothing gets past the gate: what goes wrong before it stands closes the connection."""

import asyncio
from pathlib import Path

import pytest
from mitmproxy import connection, options
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.commands import CloseConnection
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.mode_specs import ProxyMode

from addons.net.sockets import Sockets
from addons.net.tcp import TcpConnection
from addons.relay.gate import Gate
from addons.relay.shared_context import SharedContext
from addons.server import connections
from addons.server.connections import ClosingLayer, Connections
from tests.fakes.flow_watcher import add_watcher
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until


def client() -> connection.Client:
    return connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))


async def test_every_connection_gets_a_gate(proxy: Proxy) -> None:
    stream = await proxy.open()
    await until(lambda: proxy.connection_count == 1)
    assert isinstance(proxy.stage, Gate)
    stream.close()
    await until(lambda: proxy.connection_count == 0)


async def test_without_a_gate_a_connection_is_refused(proxy: Proxy) -> None:
    proxy.master.addons.get("connections")._parts = None
    stream = await proxy.open()
    assert await stream.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)


async def test_a_finished_flow_cannot_be_replayed(folder: Path, confdir: Path, target: FakeTarget) -> None:
    here = f"127.0.0.1:{target.port}"
    async with running_proxy(folder, confdir, connector_flows="on") as watched:
        watcher = add_watcher(watched)
        client = await watched.tunnel(here, f"team-a/k8s:{watched.token('team-a/k8s')}")
        await client.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % here.encode())
        await client.read_response()
        (flow,) = watcher.flows
        await until(lambda: not flow.live)
        replayed = flow.copy()
        watched.master.commands.call("replay.client", [replayed])
        await until(lambda: replayed.response is not None and replayed.response.status_code == 403)
    assert len(target.connections) == 1
    assert target.received.count(b"GET /api") == 1


def test_where_mitmproxy_would_choose_a_layer_the_connection_is_closed() -> None:
    context = Context(client(), options.Options())
    next_layer = layer.NextLayer(context)
    Connections().next_layer(next_layer)
    assert isinstance(next_layer.layer, ClosingLayer)
    (command,) = next_layer.layer.handle_event(events.Start())
    assert isinstance(command, CloseConnection)


class VetoingAddon:
    """Addon that refuses clients after the first one, and records their end."""

    def __init__(self) -> None:
        self.connected = 0
        self.disconnected_clients: list[connection.Client] = []

    async def client_connected(self, client: connection.Client) -> None:
        await asyncio.sleep(0)
        self.connected += 1
        if self.connected > 1:
            client.error = "not this one"

    def client_disconnected(self, client: connection.Client) -> None:
        self.disconnected_clients.append(client)


@pytest.mark.parametrize("flows", ["on", "off"])
async def test_addons_get_the_hooks_of_client_connections(folder: Path, confdir: Path, flows: str) -> None:
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        addon = VetoingAddon()
        proxy.master.addons.add(addon)
        stream = await proxy.open()
        await until(lambda: proxy.connection_count == 1)
        refused = await proxy.open()
        assert await refused.read_to_eof() == b""
        assert (addon.connected, [each.error for each in addon.disconnected_clients]) == (2, ["not this one"])
        stream.close()
        await until(lambda: len(addon.disconnected_clients) == 2)
        assert addon.disconnected_clients[1].timestamp_end is not None
        assert len({each.id for each in addon.disconnected_clients}) == 2


def test_a_client_that_closed_before_it_is_served_is_dropped() -> None:
    class ClosedTransport(asyncio.Transport):
        closed = False

        def get_extra_info(self, name: str, default: object = None) -> object:
            return default

        def close(self) -> None:
            self.closed = True

    tcp = TcpConnection()
    tcp.transport = transport = ClosedTransport()
    client_connections = Connections()
    client_connections.accept(ProxyMode.parse("regular"), tcp)
    assert (transport.closed, client_connections.open_count) == (True, 0)


async def test_the_end_of_a_client_without_a_gate_is_reported_once(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_gate(_: SharedContext, sockets: Sockets) -> None:
        # The sockets may close by themselves in addition.
        asyncio.get_running_loop().call_soon(sockets.close, sockets.client)
        raise RuntimeError

    addon = VetoingAddon()
    proxy.master.addons.add(addon)
    monkeypatch.setattr(connections, "Gate", failing_gate)
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    stream = await proxy.open()
    assert await stream.read_to_eof() == b""
    await until(lambda: addon.disconnected_clients)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (len(addon.disconnected_clients), proxy.connection_count, problems) == (1, 0, [])
