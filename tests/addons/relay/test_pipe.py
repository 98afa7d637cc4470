"""After a 101 bytes pass as they are; what ends, and how, is passed on and written down."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mitmproxy.connection import Server

from addons.net.tls import TlsStream
from addons.records.record import Record
from tests.fakes.below_tls import BelowTls
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"
SPDY = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
WEBSOCKET = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture(params=["off", "on"], ids=["unwatched", "watched"])
async def proxy(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows=request.param) as running:
        yield running


async def upgrade(proxy: Proxy, target: FakeTarget, early: bytes = b"", *, to: str = "SPDY/3.1") -> ClientConnection:
    here = f"127.0.0.1:{target.port}"
    client = await proxy.tunnel(here, f"{KEY}:{proxy.token(KEY)}")
    lines = ["POST /api/v1/namespaces/a/pods/p/exec?command=ls HTTP/1.1", f"Host: {here}", "Connection: Upgrade"]
    await client.send("\r\n".join([*lines, f"Upgrade: {to}", "Content-Length: 0", "", ""]).encode() + early)
    return client


async def test_an_upgrade_becomes_a_pipe_in_both_directions(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"
        )
        while data := await conversation.read_some():
            await conversation.send(data.upper())
        await conversation.send(b"bye")

    target.handler = handler
    client = await upgrade(proxy, target, to="websocket")
    status, _, headers = await client.read_head()
    assert (status, headers["upgrade"]) == (101, "websocket")
    assert await client.reader.readexactly(2) == b"hi"
    await client.send(b"abc")
    assert await client.reader.readexactly(3) == b"ABC"
    client.close()


async def test_both_ends_of_a_pipe_close_at_once(proxy: Proxy, target: FakeTarget, records: list[Record]) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(SPDY)
        await conversation.read_some()

    target.handler = handler
    for count in range(1, 6):
        client = await upgrade(proxy, target)
        await client.read_head()
        client.close()
        BelowTls(target.connections[-1].writer).abort()
        await until(lambda: proxy.connection_count == 0)
        assert [each.event for each in records].count("stream") == count
    assert not proxy.shared.checks.connection_counts


@pytest.mark.parametrize(
    ("properly", "cause"),
    [(True, "the target closed the connection"), (False, "the target ended without its TLS session")],
)
async def test_the_end_of_a_pipe_is_passed_on_as_it_came(
    proxy: Proxy,
    target: FakeTarget,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    properly: bool,
    cause: str,
) -> None:
    ends: list[bool] = []
    finish = TlsStream.send_eof

    def keep(self: TlsStream, *, whole: bool = True) -> None:
        ends.append(whole)
        finish(self, clean=whole)

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(SPDY)
        if not properly:
            BelowTls(conversation.writer).abort()

    monkeypatch.setattr(TlsStream, "send_eof", keep)
    target.handler = handler
    client = await upgrade(proxy, target)
    await client.read_head()
    assert await client.read_to_eof() == b""
    assert ends[0] is properly
    client.close()
    await until(lambda: proxy.connection_count == 0)
    assert records[-1].cause == cause


@pytest.mark.parametrize("properly", [True, False], ids=["ends its session", "is cut off"])
async def test_to_the_target_a_client_ends_as_it_has_ended(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, properly: bool
) -> None:
    ends: list[bool] = []
    finish = TlsStream.send_eof

    def keep(self: TlsStream, *, whole: bool = True) -> None:
        if isinstance(self.connection, Server):
            ends.append(whole)
        finish(self, clean=whole)

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(SPDY)
        await conversation.read_some()

    monkeypatch.setattr(TlsStream, "send_eof", keep)
    target.handler = handler
    client = await upgrade(proxy, target)
    await client.read_head()
    if properly:
        client.writer.close()
    else:
        BelowTls(client.writer).abort()
    await until(lambda: proxy.connection_count == 0)
    assert ends == [properly]


async def test_what_came_behind_an_upgrade_does_not_keep_the_rest_waiting(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await until(lambda: len(proxy.stage._reader.kept) == 5)
        await conversation.send(SPDY)
        await conversation.read_exactly(10)
        await conversation.send(b"both")

    target.handler = handler
    client = await upgrade(proxy, target, b"early")
    await client.read_head()
    await client.send(b"later")
    assert await client.reader.readexactly(4) == b"both"
    assert target.received.endswith(b"earlylater")
    client.close()
    await until(lambda: proxy.connection_count == 0)


@pytest.mark.parametrize(
    ("sent", "whole"),
    [
        pytest.param(b"", True, id="before the first frame"),
        pytest.param(b"\x82\x02ab", True, id="between two frames"),
        pytest.param(b"\x82\x02a", False, id="within a frame"),
    ],
)
async def test_a_websocket_is_told_to_go_between_its_frames(
    proxy: Proxy, target: FakeTarget, sent: bytes, whole: bool
) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(WEBSOCKET + sent)
        if not whole:
            await conversation.read_exactly(4)
            await conversation.send(b"b")
        await conversation.read_some()

    target.handler = handler
    client = await upgrade(proxy, target, to="websocket")
    await client.read_head()
    assert await client.reader.readexactly(len(sent)) == sent
    connections = proxy.master.addons.get("connections")
    if not whole:
        connections.take_leave("end")
        await client.send(b"more")
        assert await client.reader.readexactly(1) == b"b"
    connections.take_leave("end")
    assert await client.read_to_eof() == b"\x88\x05\x03\xe9end"


async def test_of_another_protocol_the_pieces_are_not_known(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(SPDY + b"a")
        await conversation.read_some()

    target.handler = handler
    client = await upgrade(proxy, target)
    await client.read_head()
    assert await client.reader.readexactly(1) == b"a"
    proxy.master.addons.get("connections").take_leave("end")
    assert await client.read_to_eof() == b""
