"""The sockets of a client connection: hold, time, cut."""

import asyncio
import socket

import pytest

from addons import line as line_module
from addons.line import KEEPALIVE, HeldReader
from tests.fakes.proxy import Proxy, until
from tests.fakes.target import Conversation, Target

KEY = "team-a/k8s"


class FakeWriter:
    """A writer whose peer takes nothing until told."""

    def __init__(self, error: OSError | None = None) -> None:
        self.taken = asyncio.Event()
        self.error = error

    async def drain(self) -> None:
        if self.error is not None:
            raise self.error
        await self.taken.wait()


def reader(data: bytes) -> asyncio.StreamReader:
    found = asyncio.StreamReader()
    found.feed_data(data)
    return found


async def test_a_held_reader_gives_nothing_until_it_is_released() -> None:
    held = HeldReader(reader(b"ab"))
    held.hold()
    reading = asyncio.ensure_future(held.read(10))
    await asyncio.sleep(0)
    assert not reading.done()
    held.release()
    assert await reading == b"ab"


async def test_a_side_is_read_when_the_other_has_taken_what_came_before() -> None:
    held, writer = HeldReader(reader(b"ab")), FakeWriter()
    held.opposite = writer  # type: ignore[assignment]  # only `drain` is called on it
    reading = asyncio.ensure_future(held.read(10))
    await asyncio.sleep(0)
    assert not reading.done()
    writer.taken.set()
    assert await reading == b"ab"


async def test_a_broken_other_side_is_left_to_its_own_reader() -> None:
    held = HeldReader(reader(b"ab"))
    held.opposite = FakeWriter(ConnectionResetError())  # type: ignore[assignment]  # only `drain` is called on it
    assert await held.read(10) == b"ab"


async def test_what_is_discarded_ends_with_the_stream() -> None:
    source = reader(b"ab")
    held = HeldReader(source)
    held.hold()
    held.discard()
    source.feed_eof()
    assert await held.read(10) == b""


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


async def test_who_is_refused_and_does_not_close_is_closed(
    proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "LINGER", 0.05)
    stream, answer = await proxy.connect(f"127.0.0.1:{target.port}", None)
    assert answer.status == 407
    await until(lambda: proxy.connections == 0)
    stream.close()


async def test_a_cut_ends_a_client_that_reads_nothing(
    proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "CUT_GRACE", 0.05)

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
