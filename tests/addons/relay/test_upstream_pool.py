"""Connections to targets outlive their clients, where nothing speaks against it; over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.relay import upstream_pool
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.objects.models import Target as Led
from lab.certificates import KeyPair, make_ca, make_leaf
from tests.fakes.below_tls import BelowTls
from tests.fakes.flow_watcher import add_watcher
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import PATIENCE, ClientConnection, Proxy, Response, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection, respond_to_all
from tests.fakes.waiting import until

KEY = "team-a/k8s"
HALF_A_RECORD = b"\x17\x03\x03\x00\x40abc"


def request(target: FakeTarget, first: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{first} HTTP/1.1", f"Host: 127.0.0.1:{target.port}", *fields, "", ""]).encode() + body


async def open_request(
    proxy: Proxy, target: FakeTarget, first: str, *fields: str, body: bytes = b""
) -> ClientConnection:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.send(request(target, first, *fields, body=body))
    return client


async def disconnect(proxy: Proxy, client: ClientConnection) -> None:
    client.close()
    await until(lambda: proxy.connection_count == 0)


async def call_once(
    proxy: Proxy, target: FakeTarget, first: str = "GET /api", *fields: str, body: bytes = b""
) -> Response:
    """As kubectl: a connection, a request, and away."""
    client = await open_request(proxy, target, first, *fields, body=body)
    answer = await client.read_response(body=not first.startswith("HEAD") and "/none" not in first)
    await disconnect(proxy, client)
    return answer


def below_tls(conversation: TargetConnection) -> BelowTls:
    return BelowTls(conversation.writer)


async def test_the_next_caller_needs_no_new_connection_and_no_handshake(proxy: Proxy, target: FakeTarget) -> None:
    for _ in range(3):
        assert (await call_once(proxy, target)).body == b"ok"
    assert (len(target.connections), proxy.shared.upstream_pool.reuse_count, len(proxy.shared.upstream_pool)) == (
        1,
        2,
        1,
    )
    assert target.received.count(b"Authorization: Bearer " + TARGET_TOKEN.encode()) == 3


async def test_both_doors_and_watched_requests_share_them(watched: Proxy, target: FakeTarget) -> None:
    seen = add_watcher(watched)
    await call_once(watched, target)
    direct = await watched.open()
    line = (
        f"GET /connectors/{KEY}/api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {watched.token(KEY)}\r\n\r\n"
    )
    await direct.send(line.encode())
    assert (await direct.read_response()).body == b"ok"
    assert len(target.connections) == 1
    assert [flow.server_conn.peername for flow in seen.flows] == [("127.0.0.1", target.port)] * 2


async def test_a_second_request_on_one_that_was_kept_is_read(watched: Proxy, target: FakeTarget) -> None:
    await call_once(watched, target)
    client = await open_request(watched, target, "GET /api")
    assert (await client.read_response()).body == b"ok"
    await client.send(request(target, "GET /api"))
    assert (await client.read_response()).body == b"ok"
    assert len(target.connections) == 1


class ServerHooks:
    """An addon that is told of connections to targets."""

    def __init__(self) -> None:
        self.hook_names: list[str] = []

    def server_connect(self, data: ServerConnectionHookData) -> None:
        self.hook_names.append("connect")

    def server_connected(self, data: ServerConnectionHookData) -> None:
        self.hook_names.append("connected")

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        assert data.server.timestamp_end is not None
        self.hook_names.append("disconnected")


async def test_mitmproxys_addons_hear_of_a_connection_once_however_many_it_serves(
    proxy: Proxy, target: FakeTarget
) -> None:
    servers = ServerHooks()
    proxy.master.addons.add(servers)
    for _ in range(2):
        await call_once(proxy, target)
    assert servers.hook_names == ["connect", "connected"]
    proxy.shared.upstream_pool.close()
    await until(lambda: servers.hook_names == ["connect", "connected", "disconnected"])


async def _respond_created(conversation: TargetConnection) -> None:
    await conversation.read_head()
    await conversation.read_exactly(4)
    await conversation.send(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    await respond_to_all(conversation)


def _sending(*pieces: bytes, body: int = 0) -> Callable[[TargetConnection], Awaitable[None]]:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.read_exactly(body)
        for piece in pieces:
            await conversation.send(piece)
        await respond_to_all(conversation)

    return handler


@pytest.mark.parametrize(
    ("handler", "asked"),
    [
        pytest.param(respond_to_all, ("GET /api",), id="a length"),
        pytest.param(respond_to_all, ("GET /api", "Connection: close"), id="the client alone ends its connection"),
        pytest.param(
            _respond_created, ("POST /api", "Content-Length: 4"), id="a request with a body, an answer in chunks"
        ),
        pytest.param(_sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), ("HEAD /api",), id="HEAD"),
        pytest.param(_sending(b"HTTP/1.1 204 No Content\r\n\r\n"), ("DELETE /none",), id="204"),
        pytest.param(_sending(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), ("GET /none",), id="304"),
    ],
)
async def test_after_a_clean_exchange_it_is_kept(
    proxy: Proxy, target: FakeTarget, handler: Callable[[TargetConnection], Awaitable[None]], asked: tuple[str, ...]
) -> None:
    target.handler = handler
    await call_once(proxy, target, *asked, body=b"body" if "Content-Length: 4" in asked else b"")
    assert len(proxy.shared.upstream_pool) == 1
    assert (await call_once(proxy, target)).body == b"ok"
    assert len(target.connections) == 1


def _closing(how: str) -> Callable[[TargetConnection], Awaitable[None]]:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        if how == "record":
            conversation.writer.write(OK)
            below_tls(conversation).write(HALF_A_RECORD)
            await asyncio.Event().wait()
        conversation.writer.write(OK)
        if how == "reset":
            below_tls(conversation).abort()
        elif how == "fin":
            below_tls(conversation).write_eof()
            await asyncio.Event().wait()

    return handler


@pytest.mark.parametrize(
    ("handler", "asked"),
    [
        pytest.param(_sending(OK + b"H"), ("GET /api",), id="a byte beyond the answer"),
        pytest.param(_sending(OK + OK), ("GET /api",), id="two answers"),
        pytest.param(
            _sending(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
            ("GET /api",),
            id="the target says that it closes",
        ),
        pytest.param(
            _sending(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"),
            ("GET /api",),
            id="HTTP/1.0",
        ),
        pytest.param(
            _sending(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK), ("GET /api",), id="an answer before the answer"
        ),
        pytest.param(_sending(OK), ("PUT /api", "Content-Length: 4"), id="an answer before the request is whole"),
        pytest.param(_sending(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), ("GET /api",), id="401"),
        pytest.param(_closing("close"), ("GET /api",), id="the end of TLS"),
        pytest.param(_closing("fin"), ("GET /api",), id="FIN without the end of TLS"),
        pytest.param(_closing("reset"), ("GET /api",), id="a reset"),
        pytest.param(_closing("record"), ("GET /api",), id="half a record"),
    ],
)
async def test_after_any_other_exchange_it_is_closed(
    proxy: Proxy, target: FakeTarget, handler: Callable[[TargetConnection], Awaitable[None]], asked: tuple[str, ...]
) -> None:
    target.handler = handler
    client = await open_request(proxy, target, *asked)
    await client.read_head()
    await disconnect(proxy, client)
    await until(lambda: len(proxy.shared.upstream_pool) == 0)
    assert proxy.shared.upstream_pool.discard_counts["idle"] == 0
    target.handler = respond_to_all
    answer = await call_once(proxy, target)
    assert (answer.status, answer.body) == (200, b"ok")
    assert (len(target.connections), proxy.shared.upstream_pool.reuse_count) == (2, 0)


async def test_after_a_word_between_two_requests_it_is_closed(proxy: Proxy, target: FakeTarget) -> None:
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    await target.connections[0].send(OK[:-1])
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
    assert len(proxy.shared.upstream_pool) == 0
    assert (await call_once(proxy, target)).body == b"ok"
    assert len(target.connections) == 2


async def test_an_answer_until_the_close_leaves_nothing_to_keep(proxy: Proxy, target: FakeTarget) -> None:
    async def until_close(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\n\r\nok")

    target.handler = until_close
    client = await open_request(proxy, target, "GET /api")
    assert (await client.read_to_eof()).endswith(b"ok")
    assert len(proxy.shared.upstream_pool) == 0


async def test_after_an_upgrade_nothing_is_kept(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = _sending(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    client = await open_request(proxy, target, "GET /api", "Connection: Upgrade", "Upgrade: websocket")
    assert (await client.read_head())[0] == 101
    await disconnect(proxy, client)
    assert len(proxy.shared.upstream_pool) == 0


async def test_a_client_that_leaves_in_the_middle_of_an_answer_takes_it_along(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = _sending(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    client = await open_request(proxy, target, "GET /api")
    await client.read_head()
    await disconnect(proxy, client)
    assert len(proxy.shared.upstream_pool) == 0


async def test_a_client_that_leaves_in_the_middle_of_its_request_takes_it_along(
    proxy: Proxy, target: FakeTarget
) -> None:
    target.handler = _sending(OK, body=4)
    client = await open_request(proxy, target, "PUT /api", "Content-Length: 4", body=b"bo")
    await until(lambda: target.received.endswith(b"bo") or b"PUT" in target.received)
    await disconnect(proxy, client)
    assert len(proxy.shared.upstream_pool) == 0


async def _send_response(conversation: TargetConnection) -> None:
    await conversation.send(OK)


async def _end_tls(conversation: TargetConnection) -> None:
    conversation.writer.close()


async def _fin(conversation: TargetConnection) -> None:
    below_tls(conversation).write_eof()


async def _reset(conversation: TargetConnection) -> None:
    below_tls(conversation).abort()


async def _garbage(conversation: TargetConnection) -> None:
    below_tls(conversation).write(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    ("act", "reason"),
    [(_send_response, "surplus"), (_end_tls, "ended"), (_fin, "ended"), (_reset, "ended"), (_garbage, "ended")],
    ids=["an answer to nothing", "the end of TLS", "FIN", "a reset", "no TLS"],
)
async def test_what_a_target_does_meanwhile_ends_it(
    proxy: Proxy, target: FakeTarget, act: Callable[[TargetConnection], Awaitable[None]], reason: str
) -> None:
    await call_once(proxy, target)
    await act(target.connections[0])
    await until(lambda: len(proxy.shared.upstream_pool) == 0)
    assert proxy.shared.upstream_pool.discard_counts[reason] == 1
    assert (await call_once(proxy, target)).body == b"ok"
    assert len(target.connections) == 2


@pytest.mark.parametrize("act", [OK, HALF_A_RECORD, b""], ids=["an answer", "half a record", "FIN"])
async def test_what_nobody_has_read_yet_is_seen_before_it_is_taken(
    proxy: Proxy, target: FakeTarget, act: bytes
) -> None:
    await call_once(proxy, target)
    led = proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(led, Led)
    # From here on the proxy's event loop has no turn.
    if act:
        below_tls(target.connections[0]).write(act)
    else:
        below_tls(target.connections[0]).write_eof()
    assert proxy.shared.upstream_pool.acquire(led, proxy.shared.trust) is None
    assert len(proxy.shared.upstream_pool) == 0


async def test_half_a_record_that_was_read_is_seen_too(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    ((upstream, _),) = proxy.shared.upstream_pool._expires_at.items()
    below_tls(target.connections[0]).write(HALF_A_RECORD)
    await until(lambda: not upstream.is_idle)
    assert (await call_once(proxy, target)).body == b"ok"
    assert (len(target.connections), proxy.shared.upstream_pool.discard_counts["surplus"]) == (2, 1)


# What ends it


@pytest.fixture(params=["0.05", "0"], ids=["briefly", "not at all"])
async def short_lived(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_keep_target=request.param) as running:
        yield running


async def test_it_is_kept_no_longer_than_the_option_says(forgetful: Proxy, target: FakeTarget) -> None:
    ended = asyncio.Event()

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(OK)
        await conversation.read_some()
        ended.set()

    target.handler = handler
    await call_once(forgetful, target)
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert len(forgetful.shared.upstream_pool) == 0


async def test_the_time_with_a_client_that_asks_nothing_counts(proxy: Proxy, target: FakeTarget) -> None:
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    upstream = proxy.stage._upstream
    upstream.rests -= 15
    await disconnect(proxy, client)
    assert (len(proxy.shared.upstream_pool), proxy.shared.upstream_pool.discard_counts["idle"]) == (0, 1)


async def test_it_grows_no_older_than_its_age(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_pool, "MAX_LIFETIME", 0.0)
    await call_once(proxy, target)
    assert (len(proxy.shared.upstream_pool), proxy.shared.upstream_pool.discard_counts["old"]) == (0, 1)


@pytest.mark.parametrize("bound", ["_most", "_most_of_one"])
async def test_at_the_bound_the_oldest_goes(proxy: Proxy, target: FakeTarget, bound: str) -> None:
    def arrived(number: int) -> bool:
        return len(proxy.shared.upstream_pool) + sum(proxy.shared.upstream_pool.discard_counts.values()) == number

    setattr(proxy.shared.upstream_pool, bound, 2)
    clients = [await open_request(proxy, target, "GET /api") for _ in range(3)]
    for client in clients:
        await client.read_response()
    for number, client in enumerate(clients, 1):
        client.close()
        await until(partial(arrived, number))
    assert (len(proxy.shared.upstream_pool), proxy.shared.upstream_pool.discard_counts["full"]) == (2, 1)
    await until(target.connections[0].reader.at_eof)


def _deleted(folder: Path, target: FakeTarget, ca: KeyPair) -> None:
    (folder / "objects.yaml").unlink()


def _elsewhere(folder: Path, target: FakeTarget, ca: KeyPair) -> None:
    write(folder, connector("k8s", "https://127.0.0.1:1"), secret(ca=ca.pem))


def _other_trust(folder: Path, target: FakeTarget, ca: KeyPair) -> None:
    here = f"https://127.0.0.1:{target.port}"
    write(folder, connector("k8s", here), secret(ca=make_ca("other").pem + ca.pem))


@pytest.mark.usefixtures("gone_at_once")
@pytest.mark.parametrize(
    "change", [_deleted, _elsewhere, _other_trust], ids=["it is deleted", "another address", "another CA"]
)
async def test_a_connector_that_changes_ends_it(
    proxy: Proxy, target: FakeTarget, target_ca: KeyPair, change: Callable[[Path, FakeTarget, KeyPair], None]
) -> None:
    await call_once(proxy, target)
    change(proxy.folder, target, target_ca)
    await until(lambda: len(proxy.shared.upstream_pool) == 0)
    assert proxy.shared.upstream_pool.discard_counts["changed"] == 1


async def test_a_connector_that_changed_while_its_client_was_there_is_seen(
    proxy: Proxy, target: FakeTarget, target_ca: KeyPair
) -> None:
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    before = proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    _other_trust(proxy.folder, target, target_ca)
    await until(lambda: proxy.shared.store.get(ObjectKey("team-a", "k8s")) != before)
    await disconnect(proxy, client)
    assert (len(proxy.shared.upstream_pool), proxy.shared.upstream_pool.discard_counts["changed"]) == (0, 1)


async def test_another_token_needs_no_other_connection(proxy: Proxy, target: FakeTarget, target_ca: KeyPair) -> None:
    await call_once(proxy, target)
    before = proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    here = f"https://127.0.0.1:{target.port}"
    write(proxy.folder, connector("k8s", here), secret(token="rotated-token", ca=target_ca.pem))
    await until(lambda: proxy.shared.store.get(ObjectKey("team-a", "k8s")) != before)
    await call_once(proxy, target)
    (conversation,) = target.connections
    assert conversation.received.count(b"Bearer rotated-token\r\n") == 1


async def test_two_connectors_never_share_one(proxy: Proxy, target: FakeTarget, target_ca: KeyPair) -> None:
    here = f"127.0.0.1:{target.port}"
    write(
        proxy.folder,
        connector("other", f"https://{here}", secret="other"),
        secret("other", ca=target_ca.pem),
        file="o.yaml",
    )
    await until(lambda: proxy.shared.store.object_counts["Connector"] == 2)
    await call_once(proxy, target)
    client = await proxy.tunnel(here, f"team-a/other:{proxy.token('team-a/other')}")
    await client.send(request(target, "GET /other"))
    await client.read_response()
    await disconnect(proxy, client)
    assert [b"/other" in each.received for each in target.connections] == [False, True]


async def test_a_proxy_that_is_about_to_end_keeps_none(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    late = await open_request(proxy, target, "GET /api")
    await late.read_response()
    client.close()
    await until(lambda: len(proxy.shared.upstream_pool) == 1)
    proxy.master.addons.get("connections").retire()
    await until(lambda: proxy.connection_count == 0)
    assert len(proxy.shared.upstream_pool) == 0
    assert proxy.shared.upstream_pool.discard_counts["draining"] == 2
    for each in target.connections:
        await until(each.reader.at_eof)


async def test_what_was_counted_is_shown(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    await call_once(proxy, target)
    text = proxy.master.addons.get("lifecycle")._records.metrics.render().decode()
    assert "connector_kept_connections 1.0" in text
    assert "connector_kept_connections_taken_total 1.0" in text
    assert 'connector_kept_connections_dropped_total{reason="surplus"} 0.0' in text
    assert "connector_requests_sent_again_total 0.0" in text


async def test_a_connection_made_as_nobody_is_not_for_a_client_certificate(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    led = proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(led, Led)
    leaf = make_leaf(make_ca("clients"), ["client"])
    other = replace(led, credential=ClientCertificate(leaf.pem, leaf.key_pem))
    assert proxy.shared.upstream_pool.acquire(other, proxy.shared.trust) is None
    assert proxy.shared.upstream_pool.discard_counts["changed"] == 1
