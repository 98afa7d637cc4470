"""What addons see of a request and can do with it. Each test asserts what the target received."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mitmproxy import http

from addons.records.record import Record
from addons.relay.flow_labels import REFUSED
from tests.fakes.flow_watcher import add_watcher
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


@pytest.fixture
async def flow_proxy(folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows="on", connector_keep_body="4") as running:
        yield running


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
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    assert await client.read_to_eof() == b""
    assert target.connections == []
    await until(lambda: watcher.hook_names[-1] == "error")


async def test_if_killed_at_the_response_head_the_client_gets_nothing(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy, "responseheaders", lambda flow: flow.kill())
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    assert await client.read_to_eof() == b""
    assert len(target.connections) == 1
    await until(lambda: watcher.hook_names[-1] == "error")


def json_response(status: int, document: object) -> http.Response:
    return http.Response.make(status, json.dumps(document), {"X-Why": "an addon"})


@pytest.mark.parametrize(
    ("response", "reason", "message"),
    [
        pytest.param(json_response(200, {"message": "tea"}), "", "", id="a success is not a refusal"),
        pytest.param(json_response(400, {"message": "no tea"}), "addon", "no tea", id="a Status has the message"),
        pytest.param(json_response(418, {"message": 1}), "addon", "responded with status 418", id="another message"),
        pytest.param(json_response(418, [1]), "addon", "responded with status 418", id="a list"),
        pytest.param(http.Response.make(503, b"\xff", {"X-Why": "an addon"}), "addon", "503", id="not JSON"),
    ],
)
async def test_a_response_of_an_addon_replaces_that_of_the_target(
    flow_proxy: Proxy, target: FakeTarget, response: http.Response, reason: str, message: str
) -> None:
    records: list[Record] = []
    connections = flow_proxy.master.addons.get("connections")
    connections.set_parts(
        replace(connections.parts(), context=replace(flow_proxy.context, recorders=(records.append,)))
    )
    watcher = add_watcher(flow_proxy, "request", lambda flow: setattr(flow, "response", response.copy()))
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    received = await client.read_response()
    assert (received.status, received.body) == (response.status_code, response.raw_content)
    assert received.headers["x-why"] == "an addon"
    assert target.connections == []
    await until(lambda: watcher.hook_names[-1] == "response")
    assert (records[-1].status, records[-1].cause) == (response.status_code, reason)
    assert message in records[-1].message
    flow = watcher.flows[-1]
    assert (flow.metadata["reason"], flow.marked, flow.error) == (reason, REFUSED if reason else "", None)
    assert message in flow.comment


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
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    assert (await client.read_response()).status in (400, 403)
    assert target.received == b""


async def test_an_intercepted_request_can_be_resumed(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy, "request", lambda flow: flow.intercept())
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    await until(lambda: "request" in watcher.hook_names)
    assert target.connections == []
    watcher.flows[0].resume()
    assert (await client.read_response()).status == 200


async def test_a_request_resumed_after_the_client_left_is_not_sent(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy, "request", lambda flow: flow.intercept())
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    await until(lambda: "request" in watcher.hook_names)
    sockets = flow_proxy.sockets
    client.close()
    await until(lambda: sockets.is_client_closed)
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
    client = await flow_proxy.tunnel_to(target)
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
    client = await flow_proxy.tunnel_to(target)
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
    client = await flow_proxy.tunnel_to(target)
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
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    await until(lambda: "responseheaders" in watcher.hook_names)
    # The EOF arrives with the head or while the hooks run. In the second case, it is handled after them.
    watcher.flows[0].resume()
    await until(lambda: flow_proxy.connection_count == 0)
    assert (await client.read_to_eof()).endswith(b"\r\n\r\nall of it")


async def test_without_flows_no_hook_runs(proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(proxy)
    client = await proxy.tunnel_to(target)
    await client.send(post(target))
    await client.read_response()
    assert watcher.hook_names == []


async def test_a_flow_says_who_called_and_what_for(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy)
    client = await flow_proxy.tunnel_to(target)
    await client.send(b"GET /api/v1/namespaces/web/pods/a HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.read_response()
    (flow,) = watcher.flows
    assert flow.comment.startswith(f"{KEY} · ")
    assert flow.comment.endswith(" · get pods web/a")
    assert (flow.metadata["connector"], flow.metadata["verb"], flow.metadata["name"]) == (KEY, "get", "a")
    assert flow.marked == ""


async def test_a_refused_request_is_a_flow_with_the_answer(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy)
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target)[:-2] + b"Impersonate-User: admin\r\n\r\n")
    response = await client.read_response()
    await until(lambda: watcher.hook_names == ["requestheaders", "response"])
    (flow,) = watcher.flows
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.content) == (response.status, response.body)
    assert (flow.marked, flow.metadata["reason"]) == (":no_entry:", "identity_header")
    assert flow.comment.startswith(f"{KEY} · ")


async def test_a_request_that_the_target_answers_with_garbage_is_a_marked_flow(
    flow_proxy: Proxy, target: FakeTarget
) -> None:
    watcher = add_watcher(flow_proxy)

    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"garbage\r\n\r\n")

    target.handler = handler
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    assert (await client.read_response()).status == 502
    await until(lambda: watcher.hook_names[-1] == "error")
    (flow,) = watcher.flows
    assert (flow.marked, flow.metadata["reason"]) == (":no_entry:", "target_unreachable")
    assert flow.response is not None
    assert flow.response.status_code == 502


async def test_a_refused_connect_is_a_flow_without_the_token(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy)
    token = "not-the-token"
    with pytest.raises(AssertionError):
        await flow_proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{token}")
    await until(lambda: watcher.hook_names == ["requestheaders", "response"])
    (flow,) = watcher.flows
    assert (flow.request.method, flow.marked) == ("CONNECT", ":no_entry:")
    assert "stranger at 127.0.0.1" in flow.comment
    assert token not in repr(flow.get_state())


async def test_flows_of_strangers_are_limited(flow_proxy: Proxy, target: FakeTarget) -> None:
    flow_proxy.context.stranger_flows._now = lambda: 0.0
    watcher = add_watcher(flow_proxy)
    for _ in range(60):
        with pytest.raises(AssertionError):
            await flow_proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:wrong")
    await until(lambda: watcher.hook_names.count("response") >= 50)
    assert len(watcher.flows) == 50


@pytest.mark.parametrize(
    ("path", "keeps"),
    [
        ("/api/v1/namespaces/web/secrets/a", False),
        ("/api/v1/secrets", False),
        ("/api/v1/namespaces/web/serviceaccounts/a/token", False),
        ("/api/v1/namespaces/web/configmaps/secrets", True),
    ],
)
async def test_bodies_of_secrets_and_tokens_are_not_kept(
    flow_proxy: Proxy, target: FakeTarget, path: str, keeps: bool
) -> None:
    watcher = add_watcher(flow_proxy)
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target, b"data").replace(b"/api ", path.encode() + b" ", 1))
    await client.read_response()
    await until(lambda: "response" in watcher.hook_names)
    (flow,) = watcher.flows
    await until(lambda: not flow.live)
    assert (flow.request.raw_content == b"data") is keeps
    assert ("request body of 4 bytes: not kept, as a Secret may be in it" in flow.comment) is not keeps


async def test_bodies_of_secrets_are_kept_if_the_option_says_so(
    folder: Path, confdir: Path, target: FakeTarget
) -> None:
    async with running_proxy(folder, confdir, connector_flows="on", connector_keep_secrets="true") as proxy:
        watcher = add_watcher(proxy)
        client = await proxy.tunnel_to(target)
        await client.send(post(target, b"data").replace(b"/api ", b"/api/v1/secrets ", 1))
        await client.read_response()
        await until(lambda: "response" in watcher.hook_names)
        await until(lambda: watcher.flows[0].request.raw_content == b"data")
