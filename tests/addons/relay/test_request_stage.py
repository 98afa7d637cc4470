"""Reading, timeouts and closing of a connection with requests, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from addons.net.sockets import CloseTimeouts
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection, respond_to_all
from tests.fakes.waiting import until


@pytest.fixture(params=["off", "on"], ids=["without flows", "with flows"])
async def proxy(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows=request.param) as running:
        yield running


def get(target: FakeTarget, path: str = "/api") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n".encode()


async def test_a_pipelined_request_is_not_read_before_the_response(proxy: Proxy, target: FakeTarget) -> None:
    async def respond_after_event(connection: TargetConnection) -> None:
        await connection.read_head()
        await event.wait()
        await connection.send(OK)
        await respond_to_all(connection)

    event = asyncio.Event()
    target.handler = respond_after_event
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    await until(lambda: b"GET " in target.received)
    await client.send(get(target, "/next")[:10])
    await until(lambda: not proxy.sockets._client_tcp.is_reading)
    await client.send(get(target, "/next")[10:])
    event.set()
    assert (await client.read_response()).status == 200
    assert (await client.read_response()).status == 200
    assert target.received.count(b"GET /next ") == 1
    client.close()


async def test_during_a_drain_the_current_response_announces_the_close(proxy: Proxy, target: FakeTarget) -> None:
    async def respond_after_event(connection: TargetConnection) -> None:
        await connection.read_head()
        await event.wait()
        await connection.send(OK)
        await connection.read_some()

    event = asyncio.Event()
    target.handler = respond_after_event
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    await until(lambda: b"GET " in target.received)
    proxy.master.addons.get("connections").drain()
    event.set()
    response = await client.read_response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert await client.read_to_eof() == b""


async def test_a_later_head_has_a_timeout_too(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    assert (await client.read_response()).status == 200
    object.__setattr__(proxy.context.timeouts, "client", 0.05)
    await client.send(get(target)[:10])
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
    assert target.received.count(b"GET ") == 1


async def test_the_timeout_of_a_head_does_not_end_its_request(proxy: Proxy, target: FakeTarget) -> None:
    async def respond_late_to_second(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(OK)
        await connection.read_head()
        await event.wait()
        await connection.send(OK)

    event = asyncio.Event()
    target.handler = respond_late_to_second
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    assert (await client.read_response()).status == 200
    await client.send(get(target)[:10])
    await until(lambda: proxy.sockets._timer_callback is not None)
    await client.send(get(target)[10:])
    await until(lambda: target.received.count(b"GET ") == 2)
    assert proxy.sockets._timer_callback is None
    event.set()
    assert (await client.read_response()).status == 200
    client.close()


async def test_a_client_that_leaves_during_a_request_closes_the_connection_to_the_target(
    proxy: Proxy, target: FakeTarget
) -> None:
    proxy.set_close_timeouts(CloseTimeouts(flush=0.05))
    closed: list[bool] = []

    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        try:
            await connection.read_some()
        finally:
            closed.append(True)

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    await until(lambda: len(target.connections) == 1 and b"GET" in target.received)
    client.close()
    await until(lambda: bool(closed))
    await until(lambda: proxy.connection_count == 0)
