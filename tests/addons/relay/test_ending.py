"""The ways in which a lane ends, over real sockets."""

import pytest

from addons.net import sockets
from tests.fakes.proxy import Proxy, until
from tests.fakes.target import Conversation, Target

KEY = "team-a/k8s"
GET = b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"


async def test_an_answer_that_breaks_off_does_not_look_whole(proxy: Proxy, target: Target) -> None:
    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    target.handler = handler
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(GET % target.port)
    assert not (await client.rest()).endswith(b"0\r\n\r\n")
    await until(lambda: proxy.connections == 0)


async def test_a_request_that_turns_bad_is_not_made_whole_for_the_target(proxy: Proxy, target: Target) -> None:
    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        while await conversation.some():
            pass

    target.handler = handler
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(
        b"POST /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n" % target.port
    )
    await until(lambda: target.received.endswith(b"1\r\na\r\n"))
    await client.say(b"-1\r\n")
    assert await client.rest() == b""
    await until(lambda: proxy.connections == 0)
    assert target.received.endswith(b"1\r\na\r\n")


async def test_a_client_that_leaves_takes_the_target_connection_with_it(
    proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "CUT_GRACE", 0.05)
    ended: list[bool] = []

    async def handler(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.some()
        ended.append(True)

    target.handler = handler
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(GET % target.port)
    await until(lambda: len(target.conversations) == 1 and b"GET" in target.received)
    client.close()
    await until(lambda: bool(ended))
    await until(lambda: proxy.connections == 0)
