"""SIGTERM: not ready, no new connections, and streams have their time to end."""

import asyncio

import pytest

from addons import draining
from addons.draining import Draining
from connector_store.domain.settings import Settings
from tests.fakes.proxy import PATIENCE, Proxy, until
from tests.fakes.target import Conversation, Target

KEY = "team-a/k8s"


async def watch(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    if await conversation.some():
        return
    await asyncio.Event().wait()


async def begin(proxy: Proxy, *, drain: float = 60.0, in_cluster: bool = False) -> "asyncio.Future[None]":
    doorkeeper = proxy.master.addons.get("doorkeeper")
    found = Draining(doorkeeper, proxy.master)
    return asyncio.ensure_future(found.run(Settings(drain=drain, in_cluster=in_cluster)))


async def test_an_idle_tunnel_ends_at_once_and_nobody_new_comes_in(proxy: Proxy, target: Target) -> None:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.answer()
    task = await begin(proxy, drain=PATIENCE)
    assert await client.rest() == b""
    client.close()
    await asyncio.wait_for(task, PATIENCE)
    assert proxy.master.should_exit.is_set()
    with pytest.raises(OSError, match=r"."):
        await proxy.open()


async def test_a_stream_has_its_time_to_end(proxy: Proxy, target: Target) -> None:
    finish = asyncio.Event()

    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await finish.wait()
        await conversation.say(b"1\r\nb\r\n0\r\n\r\n")

    target.handler = handler
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(b"GET /api?watch=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.head()
    task = await begin(proxy, drain=PATIENCE)
    await until(lambda: not proxy.master.addons.get("proxyserver").listen_addrs())
    assert not task.done()
    finish.set()
    assert (await client.rest()).endswith(b"1\r\nb\r\n0\r\n\r\n")
    client.close()
    await asyncio.wait_for(task, PATIENCE)


async def test_a_stream_that_does_not_end_is_not_waited_for_longer(proxy: Proxy, target: Target) -> None:
    target.handler = watch
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(b"GET /api?watch=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.head()
    await asyncio.wait_for(await begin(proxy, drain=0.2), PATIENCE)
    assert proxy.master.should_exit.is_set()
    assert not (await client.rest()).endswith(b"0\r\n\r\n")


async def test_in_a_cluster_new_connections_are_served_for_a_while(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "ACCEPT_MORE", PATIENCE)
    task = await begin(proxy, in_cluster=True)
    await asyncio.sleep(0)
    stream = await proxy.open()
    stream.close()
    assert not task.done()
    task.cancel()
