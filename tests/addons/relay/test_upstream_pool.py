"""Connections to targets outlive their clients if they are reusable; over real sockets."""

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.relay import upstream_pool
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.objects.models import Target
from lab.certificates import KeyPair, make_ca, make_leaf
from tests.fakes.below_tls import BelowTls
from tests.fakes.flow_watcher import add_watcher
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import PATIENCE, ClientConnection, Proxy, Response, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection, respond_to_all
from tests.fakes.waiting import until

KEY = "team-a/k8s"
PARTIAL_RECORD = b"\x17\x03\x03\x00\x40abc"


def request(target: FakeTarget, first: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{first} HTTP/1.1", f"Host: 127.0.0.1:{target.port}", *fields, "", ""]).encode() + body


async def open_request(
    proxy: Proxy, target: FakeTarget, first: str, *fields: str, body: bytes = b""
) -> ClientConnection:
    client = await proxy.tunnel_to(target)
    await client.send(request(target, first, *fields, body=body))
    return client


async def disconnect(proxy: Proxy, client: ClientConnection) -> None:
    client.close()
    await until(lambda: proxy.connection_count == 0)


async def call_once(
    proxy: Proxy, target: FakeTarget, first: str = "GET /api", *fields: str, body: bytes = b""
) -> Response:
    """Send one request on a new connection and close it, as kubectl does."""
    client = await open_request(proxy, target, first, *fields, body=body)
    response = await client.read_response(body=not first.startswith("HEAD") and "/none" not in first)
    await disconnect(proxy, client)
    return response


def below_tls(connection: TargetConnection) -> BelowTls:
    return BelowTls(connection.writer)


async def test_the_next_caller_reuses_the_connection_without_a_handshake(proxy: Proxy, target: FakeTarget) -> None:
    for _ in range(3):
        assert (await call_once(proxy, target)).body == b"ok"
    assert (len(target.connections), proxy.context.upstream_pool.reuse_count, len(proxy.context.upstream_pool)) == (
        1,
        2,
        1,
    )
    assert target.received.count(b"Authorization: Bearer " + TARGET_TOKEN.encode()) == 3


async def test_tunnels_direct_access_and_flows_share_pooled_connections(flow_proxy: Proxy, target: FakeTarget) -> None:
    seen = add_watcher(flow_proxy)
    await call_once(flow_proxy, target)
    direct = await flow_proxy.open()
    lines = [f"GET /connectors/{KEY}/api HTTP/1.1", "Host: localhost", f"Authorization: Bearer {flow_proxy.token(KEY)}"]
    await direct.send("\r\n".join([*lines, "", ""]).encode())
    assert (await direct.read_response()).body == b"ok"
    assert len(target.connections) == 1
    assert [flow.server_conn.peername for flow in seen.flows] == [("127.0.0.1", target.port)] * 2


async def test_a_pooled_connection_serves_several_requests_of_a_client(flow_proxy: Proxy, target: FakeTarget) -> None:
    await call_once(flow_proxy, target)
    client = await open_request(flow_proxy, target, "GET /api")
    assert (await client.read_response()).body == b"ok"
    await client.send(request(target, "GET /api"))
    assert (await client.read_response()).body == b"ok"
    assert len(target.connections) == 1


class ServerHooks:
    """Addon that records the hooks of connections to targets."""

    def __init__(self) -> None:
        self.hook_names: list[str] = []

    def server_connect(self, data: ServerConnectionHookData) -> None:
        self.hook_names.append("connect")

    def server_connected(self, data: ServerConnectionHookData) -> None:
        self.hook_names.append("connected")

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        assert data.server.timestamp_end is not None
        self.hook_names.append("disconnected")


async def test_hooks_of_mitmproxy_run_once_for_a_connection_with_several_clients(
    proxy: Proxy, target: FakeTarget
) -> None:
    servers = ServerHooks()
    proxy.master.addons.add(servers)
    for _ in range(2):
        await call_once(proxy, target)
    assert servers.hook_names == ["connect", "connected"]
    proxy.context.upstream_pool.close()
    await until(lambda: servers.hook_names == ["connect", "connected", "disconnected"])


async def _respond_created(connection: TargetConnection) -> None:
    await connection.read_head()
    await connection.read_exactly(4)
    await connection.send(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    await respond_to_all(connection)


def _sending(*pieces: bytes, body: int = 0) -> Callable[[TargetConnection], Awaitable[None]]:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.read_exactly(body)
        for piece in pieces:
            await connection.send(piece)
        await respond_to_all(connection)

    return handler


@pytest.mark.parametrize(
    ("handler", "request_head"),
    [
        pytest.param(respond_to_all, ("GET /api",), id="a length"),
        pytest.param(respond_to_all, ("GET /api", "Connection: close"), id="only the client closes its connection"),
        pytest.param(
            _sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            ("POST /api", "Content-Length: 0"),
            id="a chunked response",
        ),
        pytest.param(_sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), ("HEAD /api",), id="HEAD"),
        pytest.param(_sending(b"HTTP/1.1 204 No Content\r\n\r\n"), ("DELETE /none",), id="204"),
        pytest.param(_sending(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), ("GET /none",), id="304"),
    ],
)
async def test_after_a_complete_exchange_the_connection_is_pooled(
    proxy: Proxy,
    target: FakeTarget,
    handler: Callable[[TargetConnection], Awaitable[None]],
    request_head: tuple[str, ...],
) -> None:
    target.handler = handler
    await call_once(proxy, target, *request_head)
    assert len(proxy.context.upstream_pool) == 1
    assert (await call_once(proxy, target)).body == b"ok"
    assert len(target.connections) == 1


UPGRADE = ("GET /exec", "Connection: Upgrade", "Upgrade: websocket")


@pytest.mark.parametrize(
    ("handler", "request_head"),
    [
        pytest.param(_respond_created, ("POST /api", "Content-Length: 4"), id="a body"),
        pytest.param(_sending(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), UPGRADE, id="a refused upgrade"),
    ],
)
async def test_after_a_body_or_a_refused_upgrade_the_connection_is_not_for_other_clients(
    proxy: Proxy,
    target: FakeTarget,
    handler: Callable[[TargetConnection], Awaitable[None]],
    request_head: tuple[str, ...],
) -> None:
    target.handler = handler
    client = await open_request(
        proxy, target, *request_head, body=b"body" if "Content-Length: 4" in request_head else b""
    )
    await client.read_response()
    await client.send(request(target, "GET /api"))
    await client.read_response()
    assert len(target.connections) == 1, "the same client uses it again"
    target.handler = respond_to_all
    await disconnect(proxy, client)
    assert len(proxy.context.upstream_pool) == 0
    await call_once(proxy, target)
    assert len(target.connections) == 2


def _closing(kind: str) -> Callable[[TargetConnection], Awaitable[None]]:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        if kind == "record":
            connection.writer.write(OK)
            below_tls(connection).write(PARTIAL_RECORD)
            await asyncio.Event().wait()
        connection.writer.write(OK)
        if kind == "reset":
            below_tls(connection).abort()
        elif kind == "fin":
            below_tls(connection).write_eof()
            await asyncio.Event().wait()

    return handler


@pytest.mark.parametrize(
    ("handler", "request_head"),
    [
        pytest.param(_sending(OK + b"H"), ("GET /api",), id="a byte after the response"),
        pytest.param(_sending(OK + OK), ("GET /api",), id="two responses"),
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
        pytest.param(_sending(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK), ("GET /api",), id="an interim response"),
        pytest.param(_sending(OK), ("PUT /api", "Content-Length: 4"), id="a response before the request is complete"),
        pytest.param(_sending(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), ("GET /api",), id="401"),
        pytest.param(_closing("close"), ("GET /api",), id="close_notify"),
        pytest.param(_closing("fin"), ("GET /api",), id="FIN without close_notify"),
        pytest.param(_closing("reset"), ("GET /api",), id="a reset"),
        pytest.param(_closing("record"), ("GET /api",), id="a partial record"),
    ],
)
async def test_after_any_other_exchange_the_connection_is_closed(
    proxy: Proxy,
    target: FakeTarget,
    handler: Callable[[TargetConnection], Awaitable[None]],
    request_head: tuple[str, ...],
) -> None:
    target.handler = handler
    client = await open_request(proxy, target, *request_head)
    await client.read_head()
    await disconnect(proxy, client)
    await until(lambda: len(proxy.context.upstream_pool) == 0)
    assert proxy.context.upstream_pool.discard_counts["keepalive_expiry"] == 0
    target.handler = respond_to_all
    response = await call_once(proxy, target)
    assert (response.status, response.body) == (200, b"ok")
    assert (len(target.connections), proxy.context.upstream_pool.reuse_count) == (2, 0)


async def test_unsolicited_data_between_two_requests_closes_the_connection(proxy: Proxy, target: FakeTarget) -> None:
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    await target.connections[0].send(OK[:-1])
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
    assert len(proxy.context.upstream_pool) == 0
    assert (await call_once(proxy, target)).body == b"ok"
    assert len(target.connections) == 2


async def test_after_a_close_delimited_response_nothing_is_pooled(proxy: Proxy, target: FakeTarget) -> None:
    async def until_close(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nok")

    target.handler = until_close
    client = await open_request(proxy, target, "GET /api")
    assert (await client.read_to_eof()).endswith(b"ok")
    assert len(proxy.context.upstream_pool) == 0


async def test_after_an_upgrade_nothing_is_pooled(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = _sending(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    client = await open_request(proxy, target, "GET /api", "Connection: Upgrade", "Upgrade: websocket")
    assert (await client.read_head())[0] == 101
    await disconnect(proxy, client)
    assert len(proxy.context.upstream_pool) == 0


async def test_a_client_that_leaves_within_a_response_closes_the_connection(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = _sending(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    client = await open_request(proxy, target, "GET /api")
    await client.read_head()
    await disconnect(proxy, client)
    assert len(proxy.context.upstream_pool) == 0


async def test_a_client_that_leaves_within_its_request_closes_the_connection(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = _sending(OK, body=4)
    client = await open_request(proxy, target, "PUT /api", "Content-Length: 4", body=b"bo")
    await until(lambda: target.received.endswith(b"bo") or b"PUT" in target.received)
    await disconnect(proxy, client)
    assert len(proxy.context.upstream_pool) == 0


async def _send_response(connection: TargetConnection) -> None:
    await connection.send(OK)


async def _end_tls(connection: TargetConnection) -> None:
    connection.writer.close()


async def _fin(connection: TargetConnection) -> None:
    below_tls(connection).write_eof()


async def _reset(connection: TargetConnection) -> None:
    below_tls(connection).abort()


async def _garbage(connection: TargetConnection) -> None:
    below_tls(connection).write(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (_send_response, "unsolicited_data"),
        (_end_tls, "closed_by_target"),
        (_fin, "closed_by_target"),
        (_reset, "closed_by_target"),
        (_garbage, "closed_by_target"),
    ],
    ids=["an unsolicited response", "close_notify", "FIN", "a reset", "no TLS"],
)
async def test_input_or_eof_discards_an_idle_connection(
    proxy: Proxy, target: FakeTarget, act: Callable[[TargetConnection], Awaitable[None]], reason: str
) -> None:
    await call_once(proxy, target)
    await act(target.connections[0])
    await until(lambda: len(proxy.context.upstream_pool) == 0)
    assert proxy.context.upstream_pool.discard_counts[reason] == 1
    assert (await call_once(proxy, target)).body == b"ok"
    assert len(target.connections) == 2


@pytest.mark.parametrize("act", [OK, PARTIAL_RECORD, b""], ids=["a response", "a partial record", "FIN"])
async def test_unread_input_is_noticed_when_a_connection_is_acquired(
    proxy: Proxy, target: FakeTarget, act: bytes
) -> None:
    await call_once(proxy, target)
    current = proxy.context.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(current, Target)
    (upstream,) = proxy.context.upstream_pool._expires_at
    # From here on, the event loop of the proxy does not run.
    if act:
        below_tls(target.connections[0]).write(act)
    else:
        below_tls(target.connections[0]).write_eof()
    # A busy kernel may deliver it later.
    poller = select.poll()
    poller.register(upstream._tcp._descriptor, select.POLLIN)
    assert poller.poll(PATIENCE * 1000)
    assert proxy.context.upstream_pool.acquire(current, proxy.context.trust) is None
    assert len(proxy.context.upstream_pool) == 0


async def test_a_partial_record_is_noticed_when_a_connection_is_acquired(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    ((upstream, _),) = proxy.context.upstream_pool._expires_at.items()
    below_tls(target.connections[0]).write(PARTIAL_RECORD)
    await until(lambda: not upstream.is_idle)
    assert (await call_once(proxy, target)).body == b"ok"
    assert (len(target.connections), proxy.context.upstream_pool.discard_counts["unsolicited_data"]) == (2, 1)


# Expiry, limits and changes


@pytest.fixture(params=["0.05", "0"], ids=["a short time", "disabled"])
async def short_lived(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_keep_target=request.param) as running:
        yield running


async def test_an_idle_connection_expires_after_the_time_of_the_option(short_lived: Proxy, target: FakeTarget) -> None:
    closed = asyncio.Event()

    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(OK)
        try:
            await connection.read_some()
        finally:
            closed.set()

    target.handler = handler
    await call_once(short_lived, target)
    await asyncio.wait_for(closed.wait(), PATIENCE)
    assert len(short_lived.context.upstream_pool) == 0


async def test_idle_time_with_an_attached_client_counts(proxy: Proxy, target: FakeTarget) -> None:
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    upstream = proxy.stage._upstream
    upstream.idle_since -= 15
    await disconnect(proxy, client)
    assert (len(proxy.context.upstream_pool), proxy.context.upstream_pool.discard_counts["keepalive_expiry"]) == (0, 1)


async def test_a_connection_is_discarded_after_its_maximum_lifetime(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_pool, "MAX_LIFETIME", 0.0)
    await call_once(proxy, target)
    assert (len(proxy.context.upstream_pool), proxy.context.upstream_pool.discard_counts["max_lifetime"]) == (0, 1)


@pytest.mark.parametrize("bound", ["_max_idle", "_max_idle_per_connector"])
async def test_at_the_limit_the_oldest_connection_is_discarded(proxy: Proxy, target: FakeTarget, bound: str) -> None:
    def is_released(number: int) -> bool:
        return len(proxy.context.upstream_pool) + sum(proxy.context.upstream_pool.discard_counts.values()) == number

    setattr(proxy.context.upstream_pool, bound, 2)
    clients = [await open_request(proxy, target, "GET /api") for _ in range(3)]
    for client in clients:
        await client.read_response()
    for number, client in enumerate(clients, 1):
        client.close()
        await until(partial(is_released, number))
    assert (len(proxy.context.upstream_pool), proxy.context.upstream_pool.discard_counts["max_idle"]) == (2, 1)
    await until(target.connections[0].reader.at_eof)


def _deleted(folder: Path, target: FakeTarget, ca: KeyPair) -> None:
    (folder / "objects.yaml").unlink()


def _elsewhere(folder: Path, target: FakeTarget, ca: KeyPair) -> None:
    write(folder, connector("k8s", "https://127.0.0.1:1"), secret(ca=ca.pem))


def _other_trust(folder: Path, target: FakeTarget, ca: KeyPair) -> None:
    address = f"https://127.0.0.1:{target.port}"
    write(folder, connector("k8s", address), secret(ca=make_ca("other").pem + ca.pem))


@pytest.mark.usefixtures("gone_at_once")
@pytest.mark.parametrize(
    "change", [_deleted, _elsewhere, _other_trust], ids=["it is deleted", "another address", "another CA"]
)
async def test_a_changed_connector_discards_its_connections(
    proxy: Proxy, target: FakeTarget, target_ca: KeyPair, change: Callable[[Path, FakeTarget, KeyPair], None]
) -> None:
    await call_once(proxy, target)
    change(proxy.folder, target, target_ca)
    await until(lambda: len(proxy.context.upstream_pool) == 0)
    assert proxy.context.upstream_pool.discard_counts["connector_changed"] == 1


async def test_a_connection_is_discarded_if_its_connector_changed_during_its_use(
    proxy: Proxy, target: FakeTarget, target_ca: KeyPair
) -> None:
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    before = proxy.context.store.get(ObjectKey("team-a", "k8s"))
    _other_trust(proxy.folder, target, target_ca)
    await until(lambda: proxy.context.store.get(ObjectKey("team-a", "k8s")) != before)
    await disconnect(proxy, client)
    assert (len(proxy.context.upstream_pool), proxy.context.upstream_pool.discard_counts["connector_changed"]) == (0, 1)


async def test_a_new_token_needs_no_new_connection(proxy: Proxy, target: FakeTarget, target_ca: KeyPair) -> None:
    await call_once(proxy, target)
    before = proxy.context.store.get(ObjectKey("team-a", "k8s"))
    address = f"https://127.0.0.1:{target.port}"
    write(proxy.folder, connector("k8s", address), secret(token="rotated-token", ca=target_ca.pem))
    await until(lambda: proxy.context.store.get(ObjectKey("team-a", "k8s")) != before)
    await call_once(proxy, target)
    (connection,) = target.connections
    assert connection.received.count(b"Bearer rotated-token\r\n") == 1


async def test_two_connectors_never_share_a_connection(proxy: Proxy, target: FakeTarget, target_ca: KeyPair) -> None:
    address = f"127.0.0.1:{target.port}"
    write(
        proxy.folder,
        connector("other", f"https://{address}", secret="other"),
        secret("other", ca=target_ca.pem),
        file="o.yaml",
    )
    await until(lambda: proxy.context.store.object_counts["Connector"] == 2)
    await call_once(proxy, target)
    client = await proxy.tunnel(address, f"team-a/other:{proxy.token('team-a/other')}")
    await client.send(request(target, "GET /other"))
    await client.read_response()
    await disconnect(proxy, client)
    assert [b"/other" in connection.received for connection in target.connections] == [False, True]


async def test_a_draining_proxy_pools_no_connections(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    late = await open_request(proxy, target, "GET /api")
    await late.read_response()
    client.close()
    await until(lambda: len(proxy.context.upstream_pool) == 1)
    proxy.master.addons.get("connections").drain()
    await until(lambda: proxy.connection_count == 0)
    assert len(proxy.context.upstream_pool) == 0
    assert proxy.context.upstream_pool.discard_counts["draining"] == 2
    for connection in target.connections:
        await until(connection.reader.at_eof)


async def test_metrics_show_the_counters_of_the_pool(proxy: Proxy, target: FakeTarget) -> None:
    await call_once(proxy, target)
    await call_once(proxy, target)
    text = proxy.scrape()
    assert "connector_kept_connections 1.0" in text
    assert "connector_kept_connections_taken_total 1.0" in text
    assert 'connector_kept_connections_dropped_total{reason="unsolicited_data"} 0.0' in text
    assert "connector_requests_sent_again_total 0.0" in text


async def test_a_connection_without_client_certificate_does_not_serve_a_target_with_one(
    proxy: Proxy, target: FakeTarget
) -> None:
    await call_once(proxy, target)
    current = proxy.context.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(current, Target)
    leaf = make_leaf(make_ca("clients"), ["client"])
    other = replace(current, credential=ClientCertificate(leaf.pem, leaf.key_pem))
    assert proxy.context.upstream_pool.acquire(other, proxy.context.trust) is None
    assert proxy.context.upstream_pool.discard_counts["connector_changed"] == 1
