"""What a watcher sees and may do; each case asserted by what the target saw."""

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
async def watched(folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
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
async def test_killed_before_the_head_the_target_sees_nothing(watched: Proxy, target: FakeTarget, at: str) -> None:
    watcher = add_watcher(watched, at, lambda flow: flow.kill())
    client = await tunnel(watched, target)
    await client.send(post(target))
    assert await client.read_to_eof() == b""
    assert target.connections == []
    await until(lambda: watcher.hook_names[-1] == "error")


async def test_killed_after_the_head_the_client_gets_nothing_of_the_answer(watched: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(watched, "responseheaders", lambda flow: flow.kill())
    client = await tunnel(watched, target)
    await client.send(post(target))
    assert await client.read_to_eof() == b""
    assert len(target.connections) == 1
    await until(lambda: watcher.hook_names[-1] == "error")


async def test_a_response_of_an_addon_stands_for_the_targets(watched: Proxy, target: FakeTarget) -> None:
    def answer(flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(418, b"tea", {"X-Why": "an addon"})

    watcher = add_watcher(watched, "request", answer)
    client = await tunnel(watched, target)
    await client.send(post(target))
    found = await client.read_response()
    assert (found.status, found.body, found.headers["x-why"]) == (418, b"tea", "an addon")
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
async def test_an_edited_head_is_decided_on_again(
    watched: Proxy, target: FakeTarget, act: Callable[[http.HTTPFlow], None]
) -> None:
    add_watcher(watched, "request", act)
    client = await tunnel(watched, target)
    await client.send(post(target))
    assert (await client.read_response()).status in (400, 403)
    assert target.received == b""


async def test_a_person_may_hold_a_request_and_let_it_go(watched: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(watched, "request", lambda flow: flow.intercept())
    client = await tunnel(watched, target)
    await client.send(post(target))
    await until(lambda: "request" in watcher.hook_names)
    assert target.connections == []
    watcher.flows[0].resume()
    assert (await client.read_response()).status == 200


async def test_resumed_after_the_client_has_gone_the_target_sees_nothing(watched: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(watched, "request", lambda flow: flow.intercept())
    client = await tunnel(watched, target)
    await client.send(post(target))
    await until(lambda: "request" in watcher.hook_names)
    client.close()
    await until(lambda: watched.sockets.is_client_closed)
    watcher.flows[0].resume()
    await until(lambda: watched.connection_count == 0)
    assert target.received == b""


async def test_an_upgrade_shows_its_head_and_no_more(watched: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsecret frame")
        await asyncio.Event().wait()

    target.handler = handler
    watcher = add_watcher(watched)
    client = await tunnel(watched, target)
    await client.send(
        b"GET /exec HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % target.port
    )
    assert (await client.read_head())[0] == 101
    assert await client.reader.readexactly(12) == b"secret frame"
    await until(lambda: watcher.hook_names[-1] == "response")
    await until(lambda: not watcher.flows[0].live)


async def test_a_target_that_fails_is_an_error_of_the_flow(watched: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()

    target.handler = handler
    watcher = add_watcher(watched)
    client = await tunnel(watched, target)
    await client.send(post(target))
    assert (await client.read_response()).status == 502
    await until(lambda: watcher.hook_names[-1] == "error")
    (flow,) = watcher.flows
    assert flow.error is not None
    assert "without an answer" in flow.error.msg


async def test_while_a_head_is_shown_the_target_is_not_read(watched: Proxy, target: FakeTarget) -> None:
    size, said = 32_000_000, [0]

    async def pour(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.read_exactly(0)
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while said[0] < size:
            await conversation.send(b"x" * 64_000)
            said[0] += 64_000

    target.handler = pour
    watcher = add_watcher(watched, "responseheaders", lambda flow: flow.intercept())
    client = await tunnel(watched, target)
    await client.send(post(target))
    await until(lambda: "responseheaders" in watcher.hook_names)
    wires = dict(watched.sockets._connections)
    await until(lambda: said[0] == size or not all(each.is_reading for _, each in wires.values()))
    assert said[0] < size
    watcher.flows[0].resume()
    assert len((await client.read_response()).body) == size
    client.close()


async def test_a_target_that_ends_while_its_head_is_shown_ends_the_answer(watched: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    target.handler = handler
    watcher = add_watcher(watched, "responseheaders", lambda flow: flow.intercept())
    client = await tunnel(watched, target)
    await client.send(post(target))
    await until(lambda: "responseheaders" in watcher.hook_names)
    # Its end comes with the head, or while that is shown: then it is read when the head was.
    watcher.flows[0].resume()
    await until(lambda: watched.connection_count == 0)
    assert (await client.read_to_eof()).endswith(b"\r\n\r\nall of it")


async def test_unwatched_no_flow_is_made(proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(proxy)
    client = await tunnel(proxy, target)
    await client.send(post(target))
    await client.read_response()
    assert watcher.hook_names == []
