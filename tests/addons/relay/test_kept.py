"""Connections to targets outlive their clients, where nothing speaks against it; over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.relay import kept
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.objects.models import Target as Led
from lab.certificates import Issued, make_ca, make_leaf
from tests.fakes.below_tls import BelowTls
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import PATIENCE, Answer, Proxy, Stream, running_proxy
from tests.fakes.target import OK, Conversation, Target, answer_all
from tests.fakes.waiting import until
from tests.fakes.watcher import watch

KEY = "team-a/k8s"
HALF_A_RECORD = b"\x17\x03\x03\x00\x40abc"


def request(target: Target, first: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{first} HTTP/1.1", f"Host: 127.0.0.1:{target.port}", *fields, "", ""]).encode() + body


async def begin(proxy: Proxy, target: Target, first: str, *fields: str, body: bytes = b"") -> Stream:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(request(target, first, *fields, body=body))
    return client


async def leave(proxy: Proxy, client: Stream) -> None:
    client.close()
    await until(lambda: proxy.connections == 0)


async def call(proxy: Proxy, target: Target, first: str = "GET /api", *fields: str, body: bytes = b"") -> Answer:
    """As kubectl: a connection, a request, and away."""
    client = await begin(proxy, target, first, *fields, body=body)
    answer = await client.answer(body=not first.startswith("HEAD") and "/none" not in first)
    await leave(proxy, client)
    return answer


def raw(conversation: Conversation) -> BelowTls:
    return BelowTls(conversation.writer)


async def test_the_next_caller_needs_no_new_connection_and_no_handshake(proxy: Proxy, target: Target) -> None:
    for _ in range(3):
        assert (await call(proxy, target)).body == b"ok"
    assert (len(target.conversations), proxy.service.kept.taken, len(proxy.service.kept)) == (1, 2, 1)
    assert target.received.count(b"Authorization: Bearer " + TARGET_TOKEN.encode()) == 3


async def test_both_doors_and_watched_requests_share_them(watched: Proxy, target: Target) -> None:
    seen = watch(watched)
    await call(watched, target)
    direct = await watched.open()
    line = (
        f"GET /connectors/{KEY}/api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {watched.token(KEY)}\r\n\r\n"
    )
    await direct.say(line.encode())
    assert (await direct.answer()).body == b"ok"
    assert len(target.conversations) == 1
    assert [flow.server_conn.peername for flow in seen.flows] == [("127.0.0.1", target.port)] * 2


async def test_a_second_request_on_one_that_was_kept_is_read(watched: Proxy, target: Target) -> None:
    await call(watched, target)
    client = await begin(watched, target, "GET /api")
    assert (await client.answer()).body == b"ok"
    await client.say(request(target, "GET /api"))
    assert (await client.answer()).body == b"ok"
    assert len(target.conversations) == 1


class Servers:
    """An addon that is told of connections to targets."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def server_connect(self, data: ServerConnectionHookData) -> None:
        self.told.append("connect")

    def server_connected(self, data: ServerConnectionHookData) -> None:
        self.told.append("connected")

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        assert data.server.timestamp_end is not None
        self.told.append("disconnected")


async def test_mitmproxys_addons_hear_of_a_connection_once_however_many_it_serves(proxy: Proxy, target: Target) -> None:
    servers = Servers()
    proxy.master.addons.add(servers)
    for _ in range(2):
        await call(proxy, target)
    assert servers.told == ["connect", "connected"]
    proxy.service.kept.close()
    await until(lambda: servers.told == ["connect", "connected", "disconnected"])


async def _created(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.exactly(4)
    await conversation.say(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    await answer_all(conversation)


def _saying(*pieces: bytes, body: int = 0) -> Callable[[Conversation], Awaitable[None]]:
    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.exactly(body)
        for piece in pieces:
            await conversation.say(piece)
        await answer_all(conversation)

    return handler


@pytest.mark.parametrize(
    ("handler", "asked"),
    [
        pytest.param(answer_all, ("GET /api",), id="a length"),
        pytest.param(answer_all, ("GET /api", "Connection: close"), id="the client alone ends its connection"),
        pytest.param(_created, ("POST /api", "Content-Length: 4"), id="a request with a body, an answer in chunks"),
        pytest.param(_saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), ("HEAD /api",), id="HEAD"),
        pytest.param(_saying(b"HTTP/1.1 204 No Content\r\n\r\n"), ("DELETE /none",), id="204"),
        pytest.param(_saying(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), ("GET /none",), id="304"),
    ],
)
async def test_after_a_clean_exchange_it_is_kept(
    proxy: Proxy, target: Target, handler: Callable[[Conversation], Awaitable[None]], asked: tuple[str, ...]
) -> None:
    target.handler = handler
    await call(proxy, target, *asked, body=b"body" if "Content-Length: 4" in asked else b"")
    assert len(proxy.service.kept) == 1
    assert (await call(proxy, target)).body == b"ok"
    assert len(target.conversations) == 1


def _ending(how: str) -> Callable[[Conversation], Awaitable[None]]:
    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        if how == "record":
            conversation.writer.write(OK)
            raw(conversation).write(HALF_A_RECORD)
            await asyncio.Event().wait()
        conversation.writer.write(OK)
        if how == "reset":
            raw(conversation).abort()
        elif how == "fin":
            raw(conversation).write_eof()
            await asyncio.Event().wait()

    return handler


@pytest.mark.parametrize(
    ("handler", "asked"),
    [
        pytest.param(_saying(OK + b"H"), ("GET /api",), id="a byte beyond the answer"),
        pytest.param(_saying(OK + OK), ("GET /api",), id="two answers"),
        pytest.param(
            _saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
            ("GET /api",),
            id="the target says that it closes",
        ),
        pytest.param(
            _saying(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"),
            ("GET /api",),
            id="HTTP/1.0",
        ),
        pytest.param(
            _saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK), ("GET /api",), id="an answer before the answer"
        ),
        pytest.param(_saying(OK), ("PUT /api", "Content-Length: 4"), id="an answer before the request is whole"),
        pytest.param(_saying(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), ("GET /api",), id="401"),
        pytest.param(_ending("close"), ("GET /api",), id="the end of TLS"),
        pytest.param(_ending("fin"), ("GET /api",), id="FIN without the end of TLS"),
        pytest.param(_ending("reset"), ("GET /api",), id="a reset"),
        pytest.param(_ending("record"), ("GET /api",), id="half a record"),
    ],
)
async def test_after_any_other_exchange_it_is_closed(
    proxy: Proxy, target: Target, handler: Callable[[Conversation], Awaitable[None]], asked: tuple[str, ...]
) -> None:
    target.handler = handler
    client = await begin(proxy, target, *asked)
    await client.head()
    await leave(proxy, client)
    await until(lambda: len(proxy.service.kept) == 0)
    assert proxy.service.kept.dropped["idle"] == 0
    target.handler = answer_all
    answer = await call(proxy, target)
    assert (answer.status, answer.body) == (200, b"ok")
    assert (len(target.conversations), proxy.service.kept.taken) == (2, 0)


async def test_after_a_word_between_two_requests_it_is_closed(proxy: Proxy, target: Target) -> None:
    client = await begin(proxy, target, "GET /api")
    await client.answer()
    await target.conversations[0].say(OK[:-1])
    assert await client.rest() == b""
    await until(lambda: proxy.connections == 0)
    assert len(proxy.service.kept) == 0
    assert (await call(proxy, target)).body == b"ok"
    assert len(target.conversations) == 2


async def test_an_answer_until_the_close_leaves_nothing_to_keep(proxy: Proxy, target: Target) -> None:
    async def until_close(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.say(b"HTTP/1.1 200 OK\r\n\r\nok")

    target.handler = until_close
    client = await begin(proxy, target, "GET /api")
    assert (await client.rest()).endswith(b"ok")
    assert len(proxy.service.kept) == 0


async def test_after_an_upgrade_nothing_is_kept(proxy: Proxy, target: Target) -> None:
    target.handler = _saying(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    client = await begin(proxy, target, "GET /api", "Connection: Upgrade", "Upgrade: websocket")
    assert (await client.head())[0] == 101
    await leave(proxy, client)
    assert len(proxy.service.kept) == 0


async def test_a_client_that_leaves_in_the_middle_of_an_answer_takes_it_along(proxy: Proxy, target: Target) -> None:
    target.handler = _saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    client = await begin(proxy, target, "GET /api")
    await client.head()
    await leave(proxy, client)
    assert len(proxy.service.kept) == 0


async def test_a_client_that_leaves_in_the_middle_of_its_request_takes_it_along(proxy: Proxy, target: Target) -> None:
    target.handler = _saying(OK, body=4)
    client = await begin(proxy, target, "PUT /api", "Content-Length: 4", body=b"bo")
    await until(lambda: target.received.endswith(b"bo") or b"PUT" in target.received)
    await leave(proxy, client)
    assert len(proxy.service.kept) == 0


async def _say(conversation: Conversation) -> None:
    await conversation.say(OK)


async def _end_tls(conversation: Conversation) -> None:
    conversation.writer.close()


async def _fin(conversation: Conversation) -> None:
    raw(conversation).write_eof()


async def _reset(conversation: Conversation) -> None:
    raw(conversation).abort()


async def _garbage(conversation: Conversation) -> None:
    raw(conversation).write(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    ("act", "reason"),
    [(_say, "surplus"), (_end_tls, "ended"), (_fin, "ended"), (_reset, "ended"), (_garbage, "ended")],
    ids=["an answer to nothing", "the end of TLS", "FIN", "a reset", "no TLS"],
)
async def test_what_a_target_does_meanwhile_ends_it(
    proxy: Proxy, target: Target, act: Callable[[Conversation], Awaitable[None]], reason: str
) -> None:
    await call(proxy, target)
    await act(target.conversations[0])
    await until(lambda: len(proxy.service.kept) == 0)
    assert proxy.service.kept.dropped[reason] == 1
    assert (await call(proxy, target)).body == b"ok"
    assert len(target.conversations) == 2


@pytest.mark.parametrize("act", [OK, HALF_A_RECORD, b""], ids=["an answer", "half a record", "FIN"])
async def test_what_nobody_has_read_yet_is_seen_before_it_is_taken(proxy: Proxy, target: Target, act: bytes) -> None:
    await call(proxy, target)
    led = proxy.service.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(led, Led)
    # From here on the proxy's event loop has no turn.
    if act:
        raw(target.conversations[0]).write(act)
    else:
        raw(target.conversations[0]).write_eof()
    assert proxy.service.kept.take(led, proxy.service.trust) is None
    assert len(proxy.service.kept) == 0


async def test_half_a_record_that_was_read_is_seen_too(proxy: Proxy, target: Target) -> None:
    await call(proxy, target)
    ((upstream, _),) = proxy.service.kept._ends.items()
    raw(target.conversations[0]).write(HALF_A_RECORD)
    await until(lambda: not upstream.at_rest)
    assert (await call(proxy, target)).body == b"ok"
    assert (len(target.conversations), proxy.service.kept.dropped["surplus"]) == (2, 1)


# What ends it


@pytest.fixture(params=["0.05", "0"], ids=["briefly", "not at all"])
async def forgetful(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_keep_target=request.param) as running:
        yield running


async def test_it_is_kept_no_longer_than_the_option_says(forgetful: Proxy, target: Target) -> None:
    ended = asyncio.Event()

    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.say(OK)
        await conversation.some()
        ended.set()

    target.handler = handler
    await call(forgetful, target)
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert len(forgetful.service.kept) == 0


async def test_the_time_with_a_client_that_asks_nothing_counts(proxy: Proxy, target: Target) -> None:
    client = await begin(proxy, target, "GET /api")
    await client.answer()
    upstream = proxy.stage._upstream
    upstream.rests -= 15
    await leave(proxy, client)
    assert (len(proxy.service.kept), proxy.service.kept.dropped["idle"]) == (0, 1)


async def test_it_grows_no_older_than_its_age(proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_AGE", 0.0)
    await call(proxy, target)
    assert (len(proxy.service.kept), proxy.service.kept.dropped["old"]) == (0, 1)


@pytest.mark.parametrize("bound", ["_most", "_most_of_one"])
async def test_at_the_bound_the_oldest_goes(proxy: Proxy, target: Target, bound: str) -> None:
    def arrived(number: int) -> bool:
        return len(proxy.service.kept) + sum(proxy.service.kept.dropped.values()) == number

    setattr(proxy.service.kept, bound, 2)
    clients = [await begin(proxy, target, "GET /api") for _ in range(3)]
    for client in clients:
        await client.answer()
    for number, client in enumerate(clients, 1):
        client.close()
        await until(partial(arrived, number))
    assert (len(proxy.service.kept), proxy.service.kept.dropped["full"]) == (2, 1)
    await until(target.conversations[0].reader.at_eof)


def _deleted(folder: Path, target: Target, ca: Issued) -> None:
    (folder / "objects.yaml").unlink()


def _elsewhere(folder: Path, target: Target, ca: Issued) -> None:
    write(folder, connector("k8s", "https://127.0.0.1:1"), secret(ca=ca.pem))


def _other_trust(folder: Path, target: Target, ca: Issued) -> None:
    here = f"https://127.0.0.1:{target.port}"
    write(folder, connector("k8s", here), secret(ca=make_ca("other").pem + ca.pem))


@pytest.mark.usefixtures("gone_at_once")
@pytest.mark.parametrize(
    "change", [_deleted, _elsewhere, _other_trust], ids=["it is deleted", "another address", "another CA"]
)
async def test_a_connector_that_changes_ends_it(
    proxy: Proxy, target: Target, target_ca: Issued, change: Callable[[Path, Target, Issued], None]
) -> None:
    await call(proxy, target)
    change(proxy.folder, target, target_ca)
    await until(lambda: len(proxy.service.kept) == 0)
    assert proxy.service.kept.dropped["changed"] == 1


async def test_a_connector_that_changed_while_its_client_was_there_is_seen(
    proxy: Proxy, target: Target, target_ca: Issued
) -> None:
    client = await begin(proxy, target, "GET /api")
    await client.answer()
    before = proxy.service.store.get(ObjectKey("team-a", "k8s"))
    _other_trust(proxy.folder, target, target_ca)
    await until(lambda: proxy.service.store.get(ObjectKey("team-a", "k8s")) != before)
    await leave(proxy, client)
    assert (len(proxy.service.kept), proxy.service.kept.dropped["changed"]) == (0, 1)


async def test_another_token_needs_no_other_connection(proxy: Proxy, target: Target, target_ca: Issued) -> None:
    await call(proxy, target)
    before = proxy.service.store.get(ObjectKey("team-a", "k8s"))
    here = f"https://127.0.0.1:{target.port}"
    write(proxy.folder, connector("k8s", here), secret(token="rotated-token", ca=target_ca.pem))
    await until(lambda: proxy.service.store.get(ObjectKey("team-a", "k8s")) != before)
    await call(proxy, target)
    (conversation,) = target.conversations
    assert conversation.received.count(b"Bearer rotated-token\r\n") == 1


async def test_two_connectors_never_share_one(proxy: Proxy, target: Target, target_ca: Issued) -> None:
    here = f"127.0.0.1:{target.port}"
    write(
        proxy.folder,
        connector("other", f"https://{here}", secret="other"),
        secret("other", ca=target_ca.pem),
        file="o.yaml",
    )
    await until(lambda: proxy.service.store.object_counts["Connector"] == 2)
    await call(proxy, target)
    client = await proxy.tunnel(here, f"team-a/other:{proxy.token('team-a/other')}")
    await client.say(request(target, "GET /other"))
    await client.answer()
    await leave(proxy, client)
    assert [b"/other" in each.received for each in target.conversations] == [False, True]


async def test_a_proxy_that_is_about_to_end_keeps_none(proxy: Proxy, target: Target) -> None:
    await call(proxy, target)
    client = await begin(proxy, target, "GET /api")
    await client.answer()
    late = await begin(proxy, target, "GET /api")
    await late.answer()
    client.close()
    await until(lambda: len(proxy.service.kept) == 1)
    proxy.master.addons.get("connections").retire()
    await until(lambda: proxy.connections == 0)
    assert len(proxy.service.kept) == 0
    assert proxy.service.kept.dropped["draining"] == 2
    for each in target.conversations:
        await until(each.reader.at_eof)


async def test_what_was_counted_is_shown(proxy: Proxy, target: Target) -> None:
    await call(proxy, target)
    await call(proxy, target)
    text = proxy.master.addons.get("lifecycle")._records.metrics.render().decode()
    assert "connector_kept_connections 1.0" in text
    assert "connector_kept_connections_taken_total 1.0" in text
    assert 'connector_kept_connections_dropped_total{reason="surplus"} 0.0' in text
    assert "connector_requests_sent_again_total 0.0" in text


async def test_a_connection_made_as_nobody_is_not_for_a_client_certificate(proxy: Proxy, target: Target) -> None:
    await call(proxy, target)
    led = proxy.service.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(led, Led)
    leaf = make_leaf(make_ca("clients"), ["client"])
    other = replace(led, credential=ClientCertificate(leaf.pem, leaf.key_pem))
    assert proxy.service.kept.take(other, proxy.service.trust) is None
    assert proxy.service.kept.dropped["changed"] == 1
