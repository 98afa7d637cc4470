"""Retries of requests, and the connections on which requests may start; over real sockets."""

from pathlib import Path

import pytest

from tests.addons.relay.test_upstream_pool import call_once, open_request, request
from tests.fakes.below_tls import BelowTls
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until


async def _respond_once(connection: TargetConnection) -> None:
    """Respond to one request, and close after the head of the next one."""
    await connection.read_head()
    await connection.send(OK)
    await connection.read_head()


@pytest.mark.parametrize("first", ["GET /second", "HEAD /second"])
@pytest.mark.parametrize("flows", ["off", "on"], ids=["without flows", "with flows"])
async def test_a_replayable_request_is_retried_on_a_new_connection(
    folder: Path, confdir: Path, target: FakeTarget, first: str, flows: str
) -> None:
    target.handler = _respond_once
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        await call_once(proxy, target)
        assert (await call_once(proxy, target, first)).status == 200
        assert proxy.context.upstream_pool.retry_count == 1
    assert [connection.received.count(first.encode()) for connection in target.connections] == [1, 1]
    ids = [connection.received.rpartition(b"Audit-ID: ")[2].split(b"\r\n")[0] for connection in target.connections]
    assert ids[0] == ids[1]


async def test_a_request_is_retried_once_and_not_on_a_pooled_connection(proxy: Proxy, target: FakeTarget) -> None:
    async def never_respond(connection: TargetConnection) -> None:
        await connection.read_head()

    target.handler = _respond_once
    clients = [await open_request(proxy, target, "GET /api") for _ in range(2)]
    for number, client in enumerate(clients, 1):
        await client.read_response()
        client.close()
        await until(lambda: len(proxy.context.upstream_pool) == number)  # noqa: B023 - it is waited for here
    target.handler = never_respond
    response = await call_once(proxy, target, "GET /second")
    assert (response.status, response.json()["kind"]) == (502, "Status")
    assert [connection.received.count(b"GET /second") for connection in target.connections] == [0, 1, 1]


NOT_REPLAYABLE = pytest.mark.parametrize(
    ("request_head", "body"),
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


@NOT_REPLAYABLE
async def test_other_requests_are_not_retried(
    proxy: Proxy, target: FakeTarget, request_head: tuple[str, ...], body: bytes
) -> None:
    target.handler = _respond_once
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    await client.send(request(target, *request_head, body=body))
    assert await client.read_to_eof() == b""
    assert target.received.count(b"/second") == 1
    assert (len(target.connections), proxy.context.upstream_pool.retry_count) == (1, 0)


@pytest.mark.parametrize("first", ["GET", "POST"])
@pytest.mark.parametrize("flows", ["off", "on"], ids=["without flows", "with flows"])
async def test_a_tls_error_is_reported_and_not_retried(
    folder: Path, confdir: Path, target: FakeTarget, first: str, flows: str
) -> None:
    async def then_plaintext(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(OK)
        await connection.read_head()
        BelowTls(connection.writer).write(OK)
        await connection.read_head()

    target.handler = then_plaintext
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        client = await open_request(proxy, target, "GET /first")
        await client.read_response()
        await client.send(request(target, f"{first} /second", *(["Content-Length: 0"] if first == "POST" else [])))
        response = await client.read_response()
        assert response.status == 502
        assert (
            f"target https://127.0.0.1:{target.port} of Connector team-a/k8s: TLS failed" in response.json()["message"]
        )
        assert proxy.context.upstream_pool.retry_count == 0
    assert target.received.count(b"/second") == 1


@NOT_REPLAYABLE
@pytest.mark.parametrize("flows", ["off", "on"], ids=["without flows", "with flows"])
async def test_other_requests_do_not_start_on_a_pooled_connection(
    folder: Path, confdir: Path, target: FakeTarget, request_head: tuple[str, ...], body: bytes, flows: str
) -> None:
    target.handler = _respond_once
    async with running_proxy(folder, confdir, connector_flows=flows) as proxy:
        await call_once(proxy, target)
        response = await call_once(proxy, target, *request_head, body=body)
        assert (response.status, response.body) == (200, b"ok")
        assert (proxy.context.upstream_pool.reuse_count, proxy.context.upstream_pool.retry_count) == (0, 0)
    assert [connection.received.count(b"/second") for connection in target.connections] == [0, 1]


async def test_any_request_can_use_the_connection_that_its_client_already_uses(
    proxy: Proxy, target: FakeTarget
) -> None:
    await call_once(proxy, target)
    client = await open_request(proxy, target, "GET /api")
    await client.read_response()
    await client.send(request(target, "POST /api", "Content-Length: 0"))
    assert (await client.read_response()).body == b"ok"
    assert (len(target.connections), proxy.context.upstream_pool.reuse_count) == (1, 1)


async def test_a_connection_opened_for_another_request_is_pooled(proxy: Proxy, target: FakeTarget) -> None:
    for _ in range(2):
        await call_once(proxy, target, "DELETE /api")
    await call_once(proxy, target)
    assert (len(target.connections), proxy.context.upstream_pool.reuse_count) == (2, 1)


async def test_after_the_first_byte_of_a_response_a_request_is_not_retried(proxy: Proxy, target: FakeTarget) -> None:
    async def send_one_byte(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(OK)
        await connection.read_head()
        await connection.send(b"H")

    target.handler = send_one_byte
    await call_once(proxy, target)
    client = await open_request(proxy, target, "GET /second")
    await client.read_to_eof()
    assert target.received.count(b"GET /second") == 1
