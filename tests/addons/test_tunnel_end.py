"""End of a tunnel, whatever both sides do: no data is lost, no connection stays open, and the record has the reason."""

import asyncio
from pathlib import Path

import pytest

from addons.net.sockets import CloseTimeouts
from addons.records.record import Record
from addons.relay.request_stage import NoRequest
from lab.certificates import make_ca
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def ask(proxy: Proxy, target: FakeTarget, first: str, *fields: str, body: bytes = b"") -> ClientConnection:
    authority = f"127.0.0.1:{target.port}"
    client = await proxy.tunnel(authority, f"{KEY}:{proxy.token(KEY)}")
    await client.send("\r\n".join([f"{first} HTTP/1.1", f"Host: {authority}", *fields, "", ""]).encode() + body)
    return client


@pytest.mark.parametrize("close", [True, False], ids=["the answer says so", "the target closes afterwards"])
async def test_a_slow_client_gets_the_whole_last_response(proxy: Proxy, target: FakeTarget, close: bool) -> None:
    proxy.set_close_timeouts(CloseTimeouts(linger=0, poll=0.01, flush=0))
    size = 8_000_000

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        connection_header = b"Connection: close\r\n" if close else b""
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (size, connection_header))
        await conversation.send(b"x" * size)

    target.handler = handler
    client = await ask(proxy, target, "GET /api/v1/pods")
    await client.read_head()
    stage, received_count = proxy.stage, 0
    while stage._state is not NoRequest.CLOSED:
        received_count += len(await client.reader.read(4096))
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert received_count + len(await client.read_to_eof()) == size


async def test_the_record_says_how_a_response_failed(proxy: Proxy, target: FakeTarget, records: list[Record]) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    target.handler = handler
    client = await ask(proxy, target, "GET /api")
    assert (await client.read_to_eof()).endswith(b"half")
    await until(lambda: bool(records))
    assert (records[0].status, records[0].cause) == (200, "its answer is not HTTP/1.1: cut off")


async def test_data_after_the_response_closes_the_tunnel(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")
        await conversation.read_some()

    target.handler = handler
    client = await ask(proxy, target, "GET /api")
    assert (await client.read_to_eof()).endswith(b"\r\n\r\nok")
    await until(lambda: proxy.connection_count == 0)


async def test_one_response_is_the_last_regardless_of_further_bytes(proxy: Proxy) -> None:
    client = await proxy.open()
    await client.send(b"GET /ca.crt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
    assert (await client.read_response()).status == 200
    assert await client.read_to_eof() == b""


async def test_a_client_that_closes_while_it_is_paused_is_detected(
    folder: Path, confdir: Path, target: FakeTarget, records: list[Record]
) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await asyncio.Event().wait()

    target.handler = handler
    async with running_proxy(folder, confdir, connector_recheck="0.2") as proxy:
        client = await ask(proxy, target, "GET /api/v1/pods?watch=1", body=b"G")
        await until(lambda: bool(target.received))
        assert not proxy.sockets._client_tcp.is_reading
        client.close()
        await until(lambda: proxy.connection_count == 0)
    assert [each.cause for each in records] == ["the client closed the connection"]


async def test_an_address_that_fails_at_once_is_reported_at_once(folder: Path, confdir: Path) -> None:
    authority = "255.255.255.255:6443"
    write(folder, connector("k8s", f"https://{authority}"), secret(ca=make_ca("target CA").pem))
    async with running_proxy(folder, confdir) as proxy:
        client = await proxy.tunnel(authority, f"{KEY}:{proxy.token(KEY)}")
        await client.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % authority.encode())
        received_count = await client.read_response()
    assert (received_count.status, "unreachable" in received_count.json()["message"]) == (502, True)
