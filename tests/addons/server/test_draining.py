"""Draining: no new connections, and live connections have time to end."""

import asyncio
from pathlib import Path

import pytest

from addons.server import draining
from addons.server.draining import Draining
from connector_store.domain.config.settings import Settings
from lab.ports import Port
from tests.fakes.proxy import PATIENCE, Proxy, running_proxy
from tests.fakes.raw_tls import RawTls
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def watch(conversation: TargetConnection) -> None:
    await conversation.read_head()
    await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    if await conversation.read_some():
        return
    await asyncio.Event().wait()


async def begin(proxy: Proxy, *, drain: float = 60.0, in_cluster: bool = False) -> "asyncio.Future[None]":
    connections = proxy.master.addons.get("connections")
    received = Draining(connections, proxy.master)
    return asyncio.ensure_future(received.run(Settings(drain=drain, in_cluster=in_cluster)))


async def test_an_idle_tunnel_is_closed_at_once_and_new_clients_are_refused(
    folder: Path, confdir: Path, target: FakeTarget
) -> None:
    async with running_proxy(folder, confdir, listen_port=str(Port().number)) as proxy:
        client = await proxy.tunnel_to(target)
        await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        await client.read_response()
        task = await begin(proxy, drain=PATIENCE)
        assert await client.read_to_eof() == b""
        client.close()
        await asyncio.wait_for(task, PATIENCE)
        assert proxy.master.should_exit.is_set()
        with pytest.raises(OSError, match=r"."):
            await proxy.open()


async def test_a_live_connection_has_the_drain_time_to_end(proxy: Proxy, target: FakeTarget) -> None:
    may_finish = asyncio.Event()

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await may_finish.wait()
        await conversation.send(b"1\r\nb\r\n0\r\n\r\n")

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(b"GET /api?watch=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.read_head()
    task = await begin(proxy, drain=PATIENCE)
    await until(lambda: not proxy.master.addons.get("proxyserver").listen_addrs())
    assert not task.done()
    may_finish.set()
    assert (await client.read_to_eof()).endswith(b"1\r\nb\r\n0\r\n\r\n")
    client.close()
    await asyncio.wait_for(task, PATIENCE)


async def at_the_end_of_the_drain(proxy: Proxy, target: FakeTarget, request: bytes, answer: bytes) -> bytes:
    """Return the body that a client gets if the target sends only `answer`."""

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(answer)
        await conversation.read_some()

    target.handler = handler
    client = await proxy.tunnel_to(target)
    await client.send(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (request, target.port))
    await client.send(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" if b"exec" in request else b"\r\n")
    await client.read_head()
    task = await begin(proxy, drain=0.2)
    remainder = await client.read_to_eof()
    client.close()
    await asyncio.wait_for(task, PATIENCE)
    assert proxy.master.should_exit.is_set()
    return remainder


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
WATCH = b"/api/v1/pods?watch=1"
EXEC = b"/api/v1/namespaces/a/pods/p/exec"


@pytest.mark.parametrize(
    ("request_", "answer", "remainder"),
    [
        pytest.param(
            WATCH,
            CHUNKED + b"3\r\n{}\n\r\n",
            b"3\r\n{}\n\r\n0\r\n\r\n",
            id="a watch ends as on a timeout of its server",
        ),
        pytest.param(WATCH, CHUNKED + b"3\r\n{}", b"2\r\n{}\r\n", id="a partial event is not completed"),
        pytest.param(
            EXEC,
            SWITCHED + b"\x82\x01a",
            b"\x82\x01a\x88\x10\x03\xe9the proxy ends",
            id="a WebSocket gets a going-away frame",
        ),
        pytest.param(EXEC, SWITCHED + b"\x82\x02a", b"\x82\x02a", id="a partial frame is not interrupted"),
        pytest.param(b"/api", CHUNKED + b"3\r\n{}\n\r\n", b"3\r\n{}\n\r\n", id="another response stays incomplete"),
    ],
)
async def test_at_the_end_of_the_drain(
    proxy: Proxy, target: FakeTarget, request_: bytes, answer: bytes, remainder: bytes
) -> None:
    assert await at_the_end_of_the_drain(proxy, target, request_, answer) == remainder


@pytest.mark.parametrize(
    ("request_", "answer", "remainder", "whole"),
    [
        pytest.param(WATCH, CHUNKED + b"3\r\n{}\n\r\n", b"3\r\n{}\n\r\n0\r\n\r\n", True, id="a watch that ends"),
        pytest.param(b"/api", b"HTTP/1.1 200 OK\r\n\r\nhalf", b"half", False, id="a response without a length"),
    ],
)
async def test_a_truncated_response_has_no_close_notify(
    proxy: Proxy, target: FakeTarget, request_: bytes, answer: bytes, remainder: bytes, whole: bool
) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(answer)
        await conversation.read_some()

    target.handler = handler
    stream, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    client = RawTls(stream, "127.0.0.1")
    await client.handshake()
    await client.send(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (request_, target.port))
    received = await client.read_some()
    task = await begin(proxy, drain=0.2)
    received += await client.read_to_eof()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n" + remainder)
    assert client.clean_eof is whole
    stream.close()
    await asyncio.wait_for(task, PATIENCE)


async def test_a_client_that_does_not_close_is_closed_after_the_drain(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = watch
    client = await proxy.tunnel_to(target)
    await client.send(b"GET /api?watch=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.read_head()
    await asyncio.wait_for(await begin(proxy, drain=0.2), PATIENCE)
    assert proxy.master.should_exit.is_set()


async def test_a_client_without_a_request_is_not_waited_for(proxy: Proxy) -> None:
    stream = await proxy.open()
    await stream.send(b"CONNECT ")
    await asyncio.wait_for(await begin(proxy, drain=0.2), PATIENCE)
    assert await stream.read_to_eof() == b""


async def test_in_a_cluster_new_connections_are_served_for_a_while(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "ACCEPT_SECONDS", PATIENCE)
    task = await begin(proxy, in_cluster=True)
    await asyncio.sleep(0)
    stream = await proxy.open()
    stream.close()
    assert not task.done()
    task.cancel()
