"""Content of a flow, and effects of edits. Each test asserts what the target received."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from mitmproxy import http

from tests.fakes.flow_watcher import add_watcher
from tests.fakes.manifests import TARGET_TOKEN
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until


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


async def test_a_flow_has_a_placeholder_and_the_first_bytes_of_the_bodies(
    flow_proxy: Proxy, target: FakeTarget
) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.read_exactly(8)
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")

    target.handler = handler
    watcher = add_watcher(flow_proxy)
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target, b"question"))
    assert (await client.read_response()).body == b"answer"
    await until(lambda: "response" in watcher.hook_names)
    assert watcher.hook_names == ["requestheaders", "request", "responseheaders", "response"]
    (flow,) = watcher.flows
    await until(lambda: not flow.live)
    assert flow.request.headers["authorization"] == "Bearer <of Connector team-a/k8s>"
    assert (flow.request.raw_content, flow.response and flow.response.raw_content) == (b"ques", b"answ")
    assert "the first 4 of 8 bytes" in flow.comment
    assert TARGET_TOKEN not in repr(flow.get_state())
    assert TARGET_TOKEN.encode() in target.received


async def test_the_target_gets_an_edited_head_but_not_an_edited_body(flow_proxy: Proxy, target: FakeTarget) -> None:
    def edit(flow: http.HTTPFlow) -> None:
        flow.request.headers["X-Edited"] = "yes"
        flow.request.headers["Authorization"] = "Bearer edited"
        flow.request.path = "/edited"
        flow.request.raw_content = b"edited body"

    watcher = add_watcher(flow_proxy, "request", edit)
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    assert (await client.read_response()).status == 200
    assert target.received.startswith(b"POST /edited HTTP/1.1\r\n")
    assert b"X-Edited: yes" in target.received
    assert b"Bearer edited" not in target.received
    assert b"edited body" not in target.received
    assert "was ignored" in watcher.flows[0].comment


def other_status(flow: http.HTTPFlow) -> None:
    assert flow.response is not None
    flow.response.status_code = 418


def other_header(flow: http.HTTPFlow) -> None:
    assert flow.response is not None
    flow.response.headers["X-Edited"] = "yes"


def other_body(flow: http.HTTPFlow) -> None:
    assert flow.response is not None
    flow.response.raw_content = b"edited"


def other_response(flow: http.HTTPFlow) -> None:
    flow.response = http.Response.make(418, b"tea")


@pytest.mark.parametrize("at", ["responseheaders", "response"])
@pytest.mark.parametrize("act", [other_status, other_header, other_body, other_response])
async def test_an_edit_of_the_response_is_ignored_and_noted_in_the_comment(
    flow_proxy: Proxy, target: FakeTarget, at: str, act: Callable[[http.HTTPFlow], None]
) -> None:
    watcher = add_watcher(flow_proxy, at, act)
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    response = await client.read_response()
    assert (response.status, response.body, "x-edited" in response.headers) == (200, b"ok", False)
    await until(lambda: bool(watcher.flows) and not watcher.flows[0].live)
    assert watcher.flows[0].comment.count("the edit of the response was ignored") == 1


async def test_a_flow_without_edits_has_only_its_label(flow_proxy: Proxy, target: FakeTarget) -> None:
    watcher = add_watcher(flow_proxy)
    client = await flow_proxy.tunnel_to(target)
    await client.send(post(target))
    await client.read_response()
    await until(lambda: bool(watcher.flows) and not watcher.flows[0].live)
    assert watcher.flows[0].comment == "team-a/k8s · team-a/k8s · post /api"
