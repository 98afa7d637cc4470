"""Nothing gets past the gate: what goes wrong before it stands closes the connection."""

from pathlib import Path

from mitmproxy import connection, options
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.commands import CloseConnection
from mitmproxy.proxy.context import Context

from addons.relay.gate import Gate
from addons.server.connections import Closed, Connections, Served
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import Target
from tests.fakes.waiting import until
from tests.fakes.watcher import watch


def client() -> connection.Client:
    return connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))


async def test_every_connection_gets_a_gate(proxy: Proxy) -> None:
    stream = await proxy.open()
    await until(lambda: proxy.connections == 1)
    (handler,) = proxy.master.addons.get("proxyserver").connections.values()
    connections = proxy.master.addons.get("connections")
    assert isinstance(handler.layer, Served)
    assert isinstance(proxy.stage, Gate)
    assert connections.open == 1
    stream.close()
    await until(lambda: connections.open == 0)


async def test_without_a_gate_a_connection_is_refused(proxy: Proxy) -> None:
    proxy.master.addons.get("connections")._parts = None
    stream = await proxy.open()
    assert await stream.rest() == b""
    await until(lambda: proxy.connections == 0)


async def test_a_finished_flow_cannot_be_replayed(folder: Path, confdir: Path, target: Target) -> None:
    here = f"127.0.0.1:{target.port}"
    async with running_proxy(folder, confdir, connector_flows="on") as watched:
        watcher = watch(watched)
        client = await watched.tunnel(here, f"team-a/k8s:{watched.token('team-a/k8s')}")
        await client.say(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % here.encode())
        await client.answer()
        (flow,) = watcher.flows
        await until(lambda: not flow.live)
        replayed = flow.copy()
        watched.master.commands.call("replay.client", [replayed])
        await until(lambda: replayed.response is not None and replayed.response.status_code == 403)
    assert len(target.conversations) == 1
    assert target.received.count(b"GET /api") == 1


def test_where_mitmproxy_would_choose_a_layer_the_connection_is_closed() -> None:
    context = Context(client(), options.Options())
    asked = layer.NextLayer(context)
    Connections().next_layer(asked)
    assert isinstance(asked.layer, Closed)
    (command,) = asked.layer.handle_event(events.Start())
    assert isinstance(command, CloseConnection)
