"""What is sent to a target once more, and what meets no connection of which it would have to be; over real sockets."""

from pathlib import Path

import pytest

from tests.addons.relay.test_kept import begin, call, request
from tests.fakes.below_tls import BelowTls
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import OK, Conversation, Target
from tests.fakes.waiting import until


async def _once(conversation: Conversation) -> None:
    """Answers one request, and ends without a word once it has the next."""
    await conversation.head()
    await conversation.say(OK)
    await conversation.head()


@pytest.mark.parametrize("first", ["GET /second", "HEAD /second"])
@pytest.mark.parametrize("flows", ["off", "on"], ids=["unwatched", "watched"])
async def test_what_may_be_sent_again_is_sent_again_on_a_new_connection(
    folder: Path, confdir: Path, target: Target, first: str, flows: str
) -> None:
    target.handler = _once
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        await call(proxy, target)
        assert (await call(proxy, target, first)).status == 200
        assert proxy.service.kept.sent_again == 1
    assert [each.received.count(first.encode()) for each in target.conversations] == [1, 1]
    ids = [each.received.rpartition(b"Audit-ID: ")[2].split(b"\r\n")[0] for each in target.conversations]
    assert ids[0] == ids[1]


async def test_it_is_sent_again_once_and_not_on_another_kept_connection(proxy: Proxy, target: Target) -> None:
    async def never(conversation: Conversation) -> None:
        await conversation.head()

    target.handler = _once
    clients = [await begin(proxy, target, "GET /api") for _ in range(2)]
    for client in clients:
        await client.answer()
        client.close()
    await until(lambda: len(proxy.service.kept) == 2)
    target.handler = never
    answer = await call(proxy, target, "GET /second")
    assert (answer.status, answer.json()["kind"]) == (502, "Status")
    assert [each.received.count(b"GET /second") for each in target.conversations] == [0, 1, 1]


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
async def test_nothing_else_is_sent_twice(proxy: Proxy, target: Target, asked: tuple[str, ...], body: bytes) -> None:
    target.handler = _once
    client = await begin(proxy, target, "GET /api")
    await client.answer()
    await client.say(request(target, *asked, body=body))
    assert await client.rest() == b""
    assert target.received.count(b"/second") == 1
    assert (len(target.conversations), proxy.service.kept.sent_again) == (1, 0)


@pytest.mark.parametrize("first", ["GET", "POST"])
@pytest.mark.parametrize("flows", ["off", "on"], ids=["unwatched", "watched"])
async def test_what_came_and_was_no_tls_is_told_and_nothing_is_sent_again(
    folder: Path, confdir: Path, target: Target, first: str, flows: str
) -> None:
    async def then_plain(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.say(OK)
        await conversation.head()
        BelowTls(conversation.writer).write(OK)
        await conversation.head()

    target.handler = then_plain
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        client = await begin(proxy, target, "GET /first")
        await client.answer()
        await client.say(request(target, f"{first} /second", *(["Content-Length: 0"] if first == "POST" else [])))
        answer = await client.answer()
        assert answer.status == 502
        assert f"target https://127.0.0.1:{target.port} of Connector team-a/k8s: TLS failed" in answer.json()["message"]
        assert proxy.service.kept.sent_again == 0
    assert target.received.count(b"/second") == 1


@NOT_TWICE
@pytest.mark.parametrize("flows", ["off", "on"], ids=["unwatched", "watched"])
async def test_what_may_not_be_sent_twice_begins_on_a_new_connection(
    folder: Path, confdir: Path, target: Target, asked: tuple[str, ...], body: bytes, flows: str
) -> None:
    target.handler = _once
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        await call(proxy, target)
        answer = await call(proxy, target, *asked, body=body)
        assert (answer.status, answer.body) == (200, b"ok")
        assert (proxy.service.kept.taken, proxy.service.kept.sent_again) == (0, 0)
    assert [each.received.count(b"/second") for each in target.conversations] == [0, 1]


async def test_what_a_client_has_used_itself_is_for_all_its_requests(proxy: Proxy, target: Target) -> None:
    await call(proxy, target)
    client = await begin(proxy, target, "GET /api")
    await client.answer()
    await client.say(request(target, "POST /api", "Content-Length: 0"))
    assert (await client.answer()).body == b"ok"
    assert (len(target.conversations), proxy.service.kept.taken) == (1, 1)


async def test_it_is_kept_after_a_request_that_began_on_a_new_one(proxy: Proxy, target: Target) -> None:
    for _ in range(2):
        await call(proxy, target, "DELETE /api")
    await call(proxy, target)
    assert (len(target.conversations), proxy.service.kept.taken) == (2, 1)


async def test_after_a_byte_of_an_answer_nothing_is_sent_again(proxy: Proxy, target: Target) -> None:
    async def a_byte(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.say(OK)
        await conversation.head()
        await conversation.say(b"H")

    target.handler = a_byte
    await call(proxy, target)
    client = await begin(proxy, target, "GET /second")
    await client.rest()
    assert target.received.count(b"GET /second") == 1
