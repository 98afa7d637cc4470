"""What addons see of a request and can do with it. Each test asserts what the target received."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from mitmproxy import http

from tests.fakes.flow_watcher import add_watcher
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


@pytest.fixture
async def flow_proxy(folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows="on", connector_keep_body="4") as running:
        yield running


async def tunnel(proxy: Proxy, target: FakeTarget) -> ClientConnection:
    return await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")


def post(target: FakeTarget, body: bytes = b"") -> bytes:
    return b"POST /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer fake\r\nContent-Length: %d\r\n\r\n%b" % (
        target.port,
        len(body),
        body,
    )


@pytest.mark.parametrize("at", ["requestheaders", "request"])
async def test_if_killed_before_the_head_is_sent_the_target_gets_nothing(
    flow_proxy: Proxy, target: FakeTarget, at: str
) -> None:
    watcher = add_watcher(flow_proxy, at, lambda flow: flow.kill())
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    assert await client.read_to_eof() == b""
    assert target.connections == []
    await until(lambda: watcher.hook_names[-1] == "error")


async def test_if_killed_at_the_response_head_the_client_gets_nothing(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy, "responseheaders", lambda flow: flow.kill())
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    assert await client.read_to_eof() == b""
    assert len(target.connections) == 1
    await until(lambda: watcher.hook_names[-1] == "error")


async def test_a_response_of_an_addon_replaces_that_of_the_target(flow_proxy: Proxy, target: FakeTarget) -> None:
    def respond(flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(418, b"tea", {"X-Why": "an addon"})

    watcher = add_watcher(flow_proxy, "request", respond)
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    response = await client.read_response()
    assert (response.status, response.body, response.headers["x-why"]) == (418, b"tea", "an addon")
    assert target.connections == []
    await until(lambda: watcher.hook_names[-1] == "response")


def to_host(flow: http.HTTPFlow) -> None:
    flow.request.host = "evil.example"


def to_port(flow: http.HTTPFlow) -> None:
    flow.request.port = 1


def to_http(flow: http.HTTPFlow) -> None:
    flow.request.scheme = "http"


def as_admin(flow: http.HTTPFlow) -> None:
    flow.request.headers["Impersonate-User"] = "admin"


def smuggle(flow: http.HTTPFlow) -> None:
    flow.request.headers["X"] = "a\r\nHost: b"


def trace(flow: http.HTTPFlow) -> None:
    flow.request.method = "TRACE"


@pytest.mark.parametrize("act", [to_host, to_port, to_http, as_admin, smuggle, trace])
async def test_an_edited_head_gets_a_new_decision(
    flow_proxy: Proxy, target: FakeTarget, act: Callable[[http.HTTPFlow], None]
) -> None:
    add_watcher(flow_proxy, "request", act)
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    assert (await client.read_response()).status in (400, 403)
    assert target.received == b""


async def test_an_intercepted_request_can_be_resumed(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy, "request", lambda flow: flow.intercept())
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    await until(lambda: "request" in watcher.hook_names)
    assert target.connections == []
    watcher.flows[0].resume()
    assert (await client.read_response()).status == 200


async def test_a_request_resumed_after_the_client_left_is_not_sent(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy, "request", lambda flow: flow.intercept())
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    await until(lambda: "request" in watcher.hook_names)
    client.close()
    await until(lambda: flow_proxy.sockets.is_client_closed)
    watcher.flows[0].resume()
    await until(lambda: flow_proxy.connection_count == 0)
    assert target.received == b""


async def test_the_flow_of_an_upgrade_ends_with_the_head(flow_proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsecret frame")
        await asyncio.Event().wait()

    target.handler = handler
    watcher = add_watcher(flow_proxy)
    client = await tunnel(flow_proxy, target)
    await client.send(
        b"GET /exec HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % target.port
    )
    assert (await client.read_head())[0] == 101
    assert await client.reader.readexactly(12) == b"secret frame"
    await until(lambda: watcher.hook_names[-1] == "response")
    await until(lambda: not watcher.flows[0].live)


async def test_a_failure_of_the_target_is_an_error_of_the_flow(flow_proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()

    target.handler = handler
    watcher = add_watcher(flow_proxy)
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    assert (await client.read_response()).status == 502
    await until(lambda: watcher.hook_names[-1] == "error")
    (flow,) = watcher.flows
    assert flow.error is not None
    assert "without an answer" in flow.error.msg


async def test_the_target_is_not_read_while_hooks_have_the_head(flow_proxy: Proxy, target: FakeTarget) -> None:
    size, sent = 32_000_000, [0]

    async def pour(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.read_exactly(0)
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent[0] < size:
            await connection.send(b"x" * 64_000)
            sent[0] += 64_000

    target.handler = pour
    watcher = add_watcher(flow_proxy, "responseheaders", lambda flow: flow.intercept())
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    await until(lambda: "responseheaders" in watcher.hook_names)
    connections = dict(flow_proxy.sockets._connections)
    await until(lambda: sent[0] == size or not all(tcp.is_reading for _, tcp in connections.values()))
    assert sent[0] < size
    watcher.flows[0].resume()
    assert len((await client.read_response()).body) == size
    client.close()


async def test_eof_of_the_target_while_hooks_have_the_head_ends_the_response(
    flow_proxy: Proxy, target: FakeTarget
) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    target.handler = handler
    watcher = add_watcher(flow_proxy, "responseheaders", lambda flow: flow.intercept())
    client = await tunnel(flow_proxy, target)
    await client.send(post(target))
    await until(lambda: "responseheaders" in watcher.hook_names)
    # The EOF arrives with the head or while the hooks run. In the second case, it is handled after them.
    watcher.flows[0].resume()
    await until(lambda: flow_proxy.connection_count == 0)
    assert (await client.read_to_eof()).endswith(b"\r\n\r\nall of it")


async def test_without_flows_no_hook_runs(proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(proxy)
    client = await tunnel(proxy, target)
    await client.send(post(target))
    await client.read_response()
    assert watcher.hook_names == []
