"""The sockets of a client connection: hold, time, cut."""

import asyncio
import gc
import socket
import weakref

import pytest

from addons.net.sockets import Farewell
from addons.net.tcp import KEEPALIVE, TcpConnection
from tests.fakes.proxy import Proxy
from tests.fakes.target import Conversation, Target
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def test_both_sockets_are_kept_alive(proxy: Proxy, target: Target) -> None:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.answer()
    (handler,) = proxy.master.addons.get("proxyserver").connections.values()
    assert len(handler.transports) == 2
    for io in handler.transports.values():
        sock = io.writer.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option, _ in KEEPALIVE] == [30, 10, 3]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_who_is_refused_and_does_not_close_is_closed(proxy: Proxy, target: Target) -> None:
    proxy.end_with(Farewell(linger=0.05))
    stream, answer = await proxy.connect(f"127.0.0.1:{target.port}", None)
    assert answer.status == 407
    await until(lambda: proxy.connections == 0)
    stream.close()


@pytest.mark.parametrize("close", [True, False], ids=["an answer that is the last", "a target that closes"])
async def test_as_long_as_a_client_has_not_taken_a_whole_answer_it_is_not_closed(
    proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch, close: bool
) -> None:
    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        how = b"Connection: close\r\n" if close else b""
        await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nok" % how)

    unsent = [1]
    proxy.end_with(Farewell(linger=0, cut=0, look=0))
    monkeypatch.setattr(TcpConnection, "unsent", property(lambda _: unsent[0]))
    target.handler = handler
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    served = proxy.sockets
    await client.say(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    # asyncio's TLS closes by itself once it has read the end.
    client.writer.transport._ssl_protocol._transport.pause_reading()  # type: ignore[attr-defined]  # no public way below TLS
    await until(lambda: served._over)
    for _ in range(100):
        await asyncio.sleep(0)
    assert proxy.connections == 1
    unsent[0] = 0
    await until(lambda: proxy.connections == 0)


async def test_a_cut_ends_a_client_that_reads_nothing(proxy: Proxy, target: Target) -> None:
    proxy.end_with(Farewell(cut=0.05))

    async def endless(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await conversation.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    target.handler = endless
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.reader.readexactly(10)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's TLS transport has it
    (proxy.folder / "objects.yaml").unlink()
    await until(lambda: proxy.connections == 0)
    client.close()


async def test_a_connection_that_has_ended_leaves_nothing_to_the_garbage_collector(
    proxy: Proxy, target: Target
) -> None:
    proxy.end_with(Farewell(cut=0.05))
    gc.collect()
    gc.disable()
    try:
        client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
        await client.say(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        await client.answer()
        (handler,) = proxy.master.addons.get("proxyserver").connections.values()
        layer, stage, tls = (weakref.ref(each) for each in (handler.layer, proxy.stage, proxy.stage._client.tls))
        del handler
        client.close()
        await until(lambda: layer() is None and stage() is None and tls() is None)
    finally:
        gc.enable()
