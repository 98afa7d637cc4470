"""Upgrades to WebSocket and SPDY/3.1: the requested handshake, then bytes in both directions."""

import asyncio
import os

import pytest

from tests.fakes.proxy import ClientConnection, Proxy
from tests.fakes.target import FakeTarget, TargetConnection

BINARY = os.urandom(300_000)
BEARER = "base64url.bearer.authorization.k8s.io.Y2FuYXJ5"
WEBSOCKET = [
    "GET /api/v1/namespaces/a/pods/p/exec?command=ls HTTP/1.1",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    f"Sec-WebSocket-Protocol: {BEARER}, v5.channel.k8s.io",
]
SPDY = [
    "POST /api/v1/namespaces/a/pods/p/exec?command=ls HTTP/1.1",
    "Connection: Upgrade",
    "Upgrade: SPDY/3.1",
    "X-Stream-Protocol-Version: v4.channel.k8s.io",
    "Content-Length: 0",
]
ACCEPT = {
    "websocket": "Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n",
    "SPDY/3.1": "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
}
BOTH = pytest.mark.parametrize(
    ("protocol", "lines"),
    [pytest.param("websocket", WEBSOCKET, id="WebSocket"), pytest.param("SPDY/3.1", SPDY, id="SPDY")],
)


async def ask(proxy: Proxy, target: FakeTarget, lines: list[str]) -> ClientConnection:
    client = await proxy.tunnel_to(target)
    await client.send("\r\n".join([lines[0], f"Host: 127.0.0.1:{target.port}", *lines[1:], "", ""]).encode())
    return client


async def accept(conversation: TargetConnection, protocol: str) -> bytes:
    head = await conversation.read_head()
    await conversation.send(
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{ACCEPT[protocol]}\r\n".encode()
    )
    return head


@BOTH
async def test_binary_data_passes_unchanged_in_both_directions(
    proxy: Proxy, target: FakeTarget, protocol: str, lines: list[str]
) -> None:
    async def echo(conversation: TargetConnection) -> None:
        await accept(conversation, protocol)
        while data := await conversation.read_some():
            await conversation.send(data)

    target.handler = echo
    client = await ask(proxy, target, lines)
    status, _, headers = await client.read_head()
    assert (status, headers["upgrade"], headers["connection"]) == (101, protocol, "Upgrade")
    sending = asyncio.ensure_future(client.send(BINARY))
    assert await asyncio.wait_for(client.reader.readexactly(len(BINARY)), 120) == BINARY
    await sending
    client.close()


@BOTH
async def test_the_handshake_reaches_the_target_whole_but_for_a_second_token(
    proxy: Proxy, target: FakeTarget, protocol: str, lines: list[str]
) -> None:
    heads: list[bytes] = []

    async def once(conversation: TargetConnection) -> None:
        heads.append(await accept(conversation, protocol))

    target.handler = once
    client = await ask(proxy, target, lines)
    await client.read_head()
    for line in lines[1:]:
        if not line.startswith(("Sec-WebSocket-Protocol", "Content-Length")):
            assert line.encode() in heads[0]
    assert b"bearer.authorization" not in heads[0]
    assert (b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n" in heads[0]) is (protocol == "websocket")
    client.close()


@BOTH
async def test_the_eof_of_the_target_reaches_the_client(
    proxy: Proxy, target: FakeTarget, protocol: str, lines: list[str]
) -> None:
    async def leave(conversation: TargetConnection) -> None:
        await accept(conversation, protocol)
        await conversation.send(b"the last words")

    target.handler = leave
    client = await ask(proxy, target, lines)
    await client.read_head()
    assert await client.read_to_eof() == b"the last words"


@BOTH
async def test_the_eof_of_the_client_reaches_the_target(
    proxy: Proxy, target: FakeTarget, protocol: str, lines: list[str]
) -> None:
    left = asyncio.Event()

    async def listen(conversation: TargetConnection) -> None:
        await accept(conversation, protocol)
        while await conversation.read_some():
            pass
        left.set()

    target.handler = listen
    client = await ask(proxy, target, lines)
    await client.read_head()
    client.close()
    await asyncio.wait_for(left.wait(), 120)


@BOTH
async def test_a_target_that_declines_answers_as_usual(
    proxy: Proxy, target: FakeTarget, protocol: str, lines: list[str]
) -> None:
    async def decline(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")

    target.handler = decline
    client = await ask(proxy, target, lines)
    answer = await client.read_response()
    assert (answer.status, answer.body) == (400, b"no")
    client.close()


@BOTH
async def test_a_switch_to_another_protocol_is_refused(
    proxy: Proxy, target: FakeTarget, protocol: str, lines: list[str]
) -> None:
    other = next(each for each in ACCEPT if each != protocol)

    async def confuse(conversation: TargetConnection) -> None:
        await accept(conversation, other)

    target.handler = confuse
    client = await ask(proxy, target, lines)
    answer = await client.read_response()
    assert answer.status == 502
    assert "was not asked for" in answer.json()["message"]
    client.close()
