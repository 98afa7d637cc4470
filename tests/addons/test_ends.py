"""How a tunnel ends when both sides do as they like: nothing stays, nothing is lost, and the record says why."""

import asyncio
from pathlib import Path

import pytest

from addons.net.sockets import CloseTimeouts
from addons.records.record import Record
from addons.relay.requests import Phase
from lab.certificates import make_ca
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def ask(proxy: Proxy, target: FakeTarget, first: str, *fields: str, body: bytes = b"") -> ClientConnection:
    here = f"127.0.0.1:{target.port}"
    client = await proxy.tunnel(here, f"{KEY}:{proxy.token(KEY)}")
    await client.send("\r\n".join([f"{first} HTTP/1.1", f"Host: {here}", *fields, "", ""]).encode() + body)
    return client


@pytest.mark.parametrize("close", [True, False], ids=["the answer says so", "the target closes afterwards"])
async def test_who_reads_slowly_still_gets_the_whole_last_answer(proxy: Proxy, target: FakeTarget, close: bool) -> None:
    proxy.set_farewell(CloseTimeouts(linger=0, poll=0.01, flush=0))
    size = 8_000_000

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        how = b"Connection: close\r\n" if close else b""
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (size, how))
        await conversation.send(b"x" * size)

    target.handler = handler
    client = await ask(proxy, target, "GET /api/v1/pods")
    await client.read_head()
    stage, found = proxy.stage, 0
    while stage._phase is not Phase.CLOSED:
        found += len(await client.reader.read(4096))
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert found + len(await client.read_to_eof()) == size


async def test_the_record_says_how_an_answer_broke(proxy: Proxy, target: FakeTarget, records: list[Record]) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    target.handler = handler
    client = await ask(proxy, target, "GET /api")
    assert (await client.read_to_eof()).endswith(b"half")
    await until(lambda: bool(records))
    assert (records[0].status, records[0].cause) == (200, "its answer is not HTTP/1.1: cut off")


async def test_more_than_the_answer_ends_the_tunnel(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")
        await conversation.read_some()

    target.handler = handler
    client = await ask(proxy, target, "GET /api")
    assert (await client.read_to_eof()).endswith(b"\r\n\r\nok")
    await until(lambda: proxy.connection_count == 0)


async def test_one_answer_is_the_last_whatever_follows_in_the_same_bytes(proxy: Proxy) -> None:
    client = await proxy.open()
    await client.send(b"GET /ca.crt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
    assert (await client.read_response()).status == 200
    assert await client.read_to_eof() == b""


async def test_a_client_that_leaves_while_nobody_reads_it_is_noticed(
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


async def test_an_address_that_fails_at_once_is_said_at_once(folder: Path, confdir: Path) -> None:
    here = "255.255.255.255:6443"
    write(folder, connector("k8s", f"https://{here}"), secret(ca=make_ca("target CA").pem))
    async with running_proxy(folder, confdir) as proxy:
        client = await proxy.tunnel(here, f"{KEY}:{proxy.token(KEY)}")
        await client.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % here.encode())
        found = await client.read_response()
    assert (found.status, "unreachable" in found.json()["message"]) == (502, True)
