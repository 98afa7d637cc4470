"""What is sent to a target once more, and what meets no connection of which it would have to be; over real sockets."""

from pathlib import Path

import pytest

from tests.addons.relay.test_upstream_pool import call_once, open_request, request
from tests.fakes.below_tls import BelowTls
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until


async def _once(conversation: TargetConnection) -> None:
    """Answers one request, and ends without a word once it has the next."""
    await conversation.read_head()
    await conversation.send(OK)
    await conversation.read_head()


@pytest.mark.parametrize("first", ["GET /second", "HEAD /second"])
@pytest.mark.parametrize("flows", ["off", "on"], ids=["unwatched", "watched"])
async def test_what_may_be_sent_again_is_sent_again_on_a_new_connection(
    folder: Path, confdir: Path, target: FakeTarget, first: str, flows: str
) -> None:
    target.handler = _once
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        await call_once(proxy, target)
        assert (await call_once(proxy, target, first)).status == 200
        assert proxy.shared.upstream_pool.retry_count == 1
    assert [each.received.count(first.encode()) for each in target.connections] == [1, 1]
    ids = [each.received.rpartition(b"Audit-ID: ")[2].split(b"\r\n")[0] for each in target.connections]
    assert ids[0] == ids[1]


async def test_it_is_sent_again_once_and_not_on_another_kept_connection(proxy: Proxy, target: FakeTarget) -> None:
    async def never(conversation: TargetConnection) -> None:
        await conversation.read_head()

    target.handler = _once
    clients = [await open_request(proxy, target, "GET /api") for _ in range(2)]
    for client in clients:
        await client.read_response()
        client.close()
    await until(lambda: len(proxy.shared.upstream_pool) == 2)
    target.handler = never
    answer = await call_once(proxy, target, "GET /second")
    assert (answer.status, answer.json()["kind"]) == (502, "Status")
    assert [each.received.count(b"GET /second") for each in target.connections] == [0, 1, 1]


NOT_TWICE = pytest.mark.parametrize(
    ("asked", "body"),
    [
        pytest.param(("POST /second", "Content-Length: 0"), b"", id="POST"),
        pytest.param(("POST /second", "Content-Length: 4"), b"body", id="POST with a body"),
        pytest.param(("PUT /second", "Content-Length: 4"), b"body", id="PUT"),
        pytest.param(("PATCH /second", "Content-Length: 4"), b"body", id="PATCH"),
        pytest.param(("DELETE /second",), b"", id="DELETE"),
        pytest.param(("GET /second", "Content-Length: 4"), b"body", id="GET with a body"),
        pytest.param(("GET /second", "Connection: Upgrade", "Upgrade: websocket"), b"", id="an upgrade by GET"),
        pytest.param(("POST /second", "Connection: Upgrade", "Upgrade: SPDY/3.1"), b"", id="an upgrade by POST"),
    ],
)


@NOT_TWICE
async def test_nothing_else_is_sent_twice(
    proxy: Proxy, target: FakeTarget, asked: tuple[str, ...], body: bytes
) -> None:
    target.handler = _once
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    await client.send(request(target, *asked, body=body))
    assert await client.read_to_eof() == b""
    assert target.received.count(b"/second") == 1
    assert (len(target.connections), proxy.shared.upstream_pool.retry_count) == (1, 0)


@pytest.mark.parametrize("first", ["GET", "POST"])
@pytest.mark.parametrize("flows", ["off", "on"], ids=["unwatched", "watched"])
async def test_what_came_and_was_no_tls_is_told_and_nothing_is_sent_again(
    folder: Path, confdir: Path, target: FakeTarget, first: str, flows: str
) -> None:
    async def then_plain(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(OK)
        await conversation.read_head()
        BelowTls(conversation.writer).write(OK)
        await conversation.read_head()

    target.handler = then_plain
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        client = await open_request(proxy, target, "GET /first")
        await client.read_response()
        await client.send(request(target, f"{first} /second", *(["Content-Length: 0"] if first == "POST" else [])))
        answer = await client.read_response()
        assert answer.status == 502
        assert f"target https://127.0.0.1:{target.port} of Connector team-a/k8s: TLS failed" in answer.json()["message"]
        assert proxy.shared.upstream_pool.retry_count == 0
    assert target.received.count(b"/second") == 1


@NOT_TWICE
@pytest.mark.parametrize("flows", ["off", "on"], ids=["unwatched", "watched"])
async def test_what_may_not_be_sent_twice_begins_on_a_new_connection(
    folder: Path, confdir: Path, target: FakeTarget, asked: tuple[str, ...], body: bytes, flows: str
) -> None:
    target.handler = _once
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        await call_once(proxy, target)
        answer = await call_once(proxy, target, *asked, body=body)
        assert (answer.status, answer.body) == (200, b"ok")
        assert (proxy.shared.upstream_pool.reuse_count, proxy.shared.upstream_pool.retry_count) == (0, 0)
    assert [each.received.count(b"/second") for each in target.connections] == [0, 1]


async def test_what_a_client_has_used_itself_is_for_all_its_requests(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    await client.send(request(target, "POST /api", "Content-Length: 0"))
    assert (await client.read_response()).body == b"ok"
    assert (len(target.connections), proxy.shared.upstream_pool.reuse_count) == (1, 1)


async def test_it_is_kept_after_a_request_that_began_on_a_new_one(proxy: Proxy, target: FakeTarget) -> None:
    for _ in range(2):
        await call_once(proxy, target, "DELETE /api")
    await call_once(proxy, target)
    assert (len(target.connections), proxy.shared.upstream_pool.reuse_count) == (2, 1)


async def test_after_a_byte_of_an_answer_nothing_is_sent_again(proxy: Proxy, target: FakeTarget) -> None:
    async def a_byte(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(OK)
        await conversation.read_head()
        await conversation.send(b"H")

    target.handler = a_byte
    await call_once(proxy, target)
    client = await open_request(proxy, target, "GET /second")
    await client.read_to_eof()
    assert target.received.count(b"GET /second") == 1
