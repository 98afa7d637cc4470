"""Requests in a tunnel, over real sockets."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.manifests import TARGET_TOKEN
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection, respond_to_all
from tests.fakes.waiting import until


@pytest.fixture(params=["off", "on"], ids=["without flows", "with flows"])
async def proxy(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows=request.param) as running:
        yield running


def get(target: FakeTarget, path: str = "/api", *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{target.port}", "Authorization: Bearer fake-token", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_the_target_gets_its_token_and_the_client_the_response(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel_to(target)
    for _ in range(2):
        await client.send(get(target))
        response = await client.read_response()
        assert (response.status, response.body) == (200, b"ok")
    assert len(target.connections) == 1
    assert target.received.count(b"Authorization: Bearer " + TARGET_TOKEN.encode()) == 2
    assert b"fake-token" not in target.received
    client.close()


async def test_a_chunked_body_and_its_trailers_reach_the_client(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n")
        await connection.send(b"2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n")

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    assert (await client.read_response()).body == b"abcde"
    client.close()


async def test_a_refusal_is_a_status_and_does_not_wait_for_the_body(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel_to(target)
    await client.send(
        b"PUT /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nImpersonate-User: admin\r\nContent-Length: 1000\r\n\r\n"
        % target.port
    )
    response = await client.read_response()
    assert response.status == 403
    assert response.json()["kind"] == "Status"
    assert await client.read_to_eof() == b""
    assert target.connections == []


async def test_an_unrequested_101_is_refused(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await connection.read_some()

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    assert (await client.read_response()).status == 502
    client.close()


async def test_a_401_of_the_target_names_the_secret_to_renew(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    response = await client.read_response()
    assert response.status == 502
    assert "renew Secret secret" in response.json()["message"]
    client.close()


async def test_a_body_is_sent_after_100_continue(proxy: Proxy, target: FakeTarget) -> None:
    bodies = []

    async def handler(connection: TargetConnection) -> None:
        assert b"Expect: 100-continue" in await connection.read_head()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        bodies.append(await connection.read_exactly(4))
        await connection.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target, "/api", "Expect: 100-continue", "Content-Length: 4"))
    assert (await client.read_head())[0] == 100
    await client.send(b"body")
    assert (await client.read_head())[0] == 201
    assert bodies == [b"body"]
    client.close()


async def test_a_refused_request_gets_no_100_continue(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel_to(target)
    await client.send(get(target, "/api", "Impersonate-User: admin", "Expect: 100-continue", "Content-Length: 4"))
    assert (await client.read_response()).status == 403
    assert target.connections == []
    client.close()


async def test_a_redirect_is_passed_to_the_client(proxy: Proxy, target: FakeTarget) -> None:
    elsewhere = f"https://127.0.0.1:{target.port}/elsewhere"

    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %s\r\n" % elsewhere.encode())
        await connection.send(b"Content-Length: 0\r\n\r\n")
        while await connection.read_some():
            pass

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    response = await client.read_response()
    assert (response.status, response.headers["location"]) == (307, elsewhere)
    await client.send(get(target, "/bye"))
    await until(lambda: b"GET /bye" in target.received)
    assert (len(target.connections), target.received.count(b"GET ")) == (1, 2)
    client.close()


@pytest.mark.parametrize(
    ("method", "head"),
    [
        pytest.param("HEAD", b"200 OK\r\nContent-Length: 10", id="HEAD names a length and has no body"),
        pytest.param("HEAD", b"200 OK\r\nTransfer-Encoding: chunked", id="HEAD names chunks and has none"),
        pytest.param("DELETE", b"204 No Content", id="204 has no body"),
        pytest.param("GET", b"304 Not Modified\r\nContent-Length: 10", id="304 names a length and has no body"),
    ],
)
async def test_after_a_response_without_a_body_the_tunnel_stays_open(
    proxy: Proxy, target: FakeTarget, method: str, head: bytes
) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 " + head + b"\r\n\r\n")
        await respond_to_all(connection)

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target).replace(b"GET", method.encode()))
    assert (await client.read_head())[0] == int(head[:3])
    await client.send(get(target))
    response = await client.read_response()
    assert (response.status, response.body) == (200, b"ok")
    client.close()


async def test_a_response_with_too_large_a_head_is_refused(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        filler = b"X-Filler: " + b"x" * proxy.context.max_header + b"\r\n"
        await connection.send(b"HTTP/1.1 200 OK\r\n" + filler + b"Content-Length: 0\r\n\r\n")
        await connection.read_some()

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    response = await client.read_response()
    assert (response.status, response.json()["kind"]) == (502, "Status")
    client.close()


async def test_a_truncated_response_does_not_look_complete(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(get(target))
    assert not (await client.read_to_eof()).endswith(b"0\r\n\r\n")
    await until(lambda: proxy.connection_count == 0)


async def test_a_request_that_becomes_invalid_does_not_look_complete_to_the_target(
    proxy: Proxy, target: FakeTarget
) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        while await connection.read_some():
            pass

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(
        b"POST /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n" % target.port
    )
    await until(lambda: target.received.endswith(b"1\r\na\r\n"))
    await client.send(b"-1\r\n")
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
    assert target.received.endswith(b"1\r\na\r\n")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_the_rest_of_a_request_after_an_early_response_is_never_a_request(
    proxy: Proxy, target: FakeTarget, framing: str
) -> None:
    async def respond_early(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(OK)
        while await connection.read_some():
            pass

    target.handler = respond_early
    client = await proxy.tunnel_to(target)
    await client.send(get(target, "/api", framing).replace(b"GET", b"PUT"))
    assert (await client.read_response()).status == 200
    with suppress(OSError):
        await client.send(get(target, "/smuggled"))
    await until(lambda: proxy.connection_count == 0 or b"/smuggled" in target.received)
    assert await client.read_to_eof() == b""
    target.handler = respond_to_all
    other = await proxy.tunnel_to(target)
    await other.send(get(target, "/other"))
    assert (await other.read_response()).status == 200
    assert target.received.count(b"HTTP/1.1\r\n") == 2
    assert len(target.connections) == 2
    other.close()
