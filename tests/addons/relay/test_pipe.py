"""After a 101, bytes pass unchanged. The kind of EOF is passed on and recorded."""

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


@pytest.fixture(params=["off", "on"], ids=["without flows", "with flows"])
async def proxy(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows=request.param) as running:
        yield running


async def upgrade(
    proxy: Proxy, target: FakeTarget, initial_data: bytes = b"", *, to: str = "SPDY/3.1"
) -> ClientConnection:
    authority = f"127.0.0.1:{target.port}"
    client = await proxy.tunnel(authority, f"{KEY}:{proxy.token(KEY)}")
    lines = ["POST /api/v1/namespaces/a/pods/p/exec?command=ls HTTP/1.1", f"Host: {authority}", "Connection: Upgrade"]
    await client.send("\r\n".join([*lines, f"Upgrade: {to}", "Content-Length: 0", "", ""]).encode() + initial_data)
    return client


async def test_an_upgrade_becomes_a_pipe_in_both_directions(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"
        )
        while data := await connection.read_some():
            await connection.send(data.upper())
        await connection.send(b"bye")

    target.handler = handler
    client = await upgrade(proxy, target, to="websocket")
    status, _, headers = await client.read_head()
    assert (status, headers["upgrade"]) == (101, "websocket")
    assert await client.reader.readexactly(2) == b"hi"
    await client.send(b"abc")
    assert await client.reader.readexactly(3) == b"ABC"
    client.close()


async def test_both_sides_of_a_pipe_close_at_the_same_time(
    proxy: Proxy, target: FakeTarget, records: list[Record]
) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(SPDY)
        await connection.read_some()

    target.handler = handler
    for count in range(1, 6):
        client = await upgrade(proxy, target)
        await client.read_head()
        client.close()
        BelowTls(target.connections[-1].writer).abort()
        await until(lambda: proxy.connection_count == 0)
        assert [record.event for record in records].count("stream") == count
    assert not proxy.context.access_context.connection_counts


@pytest.mark.parametrize(
    ("is_clean", "cause"),
    [(True, "the target closed the connection"), (False, "the target ended without its TLS session")],
)
async def test_eof_of_the_target_is_passed_on_as_clean_or_truncated(
    proxy: Proxy,
    target: FakeTarget,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    is_clean: bool,
    cause: str,
) -> None:
    clean_flags: list[bool] = []
    send_eof = TlsStream.send_eof

    def record(self: TlsStream, *, clean: bool = True) -> None:
        clean_flags.append(clean)
        send_eof(self, clean=clean)

    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(SPDY)
        if not is_clean:
            BelowTls(connection.writer).abort()

    monkeypatch.setattr(TlsStream, "send_eof", record)
    target.handler = handler
    client = await upgrade(proxy, target)
    await client.read_head()
    assert await client.read_to_eof() == b""
    assert clean_flags[0] is is_clean
    client.close()
    await until(lambda: proxy.connection_count == 0)
    assert records[-1].cause == cause


@pytest.mark.parametrize("is_clean", [True, False], ids=["ends its session", "is cut off"])
async def test_eof_of_the_client_is_passed_on_as_clean_or_truncated(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, is_clean: bool
) -> None:
    clean_flags: list[bool] = []
    send_eof = TlsStream.send_eof

    def record(self: TlsStream, *, clean: bool = True) -> None:
        if isinstance(self.connection, Server):
            clean_flags.append(clean)
        send_eof(self, clean=clean)

    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(SPDY)
        await connection.read_some()

    monkeypatch.setattr(TlsStream, "send_eof", record)
    target.handler = handler
    client = await upgrade(proxy, target)
    await client.read_head()
    if is_clean:
        client.writer.close()
    else:
        BelowTls(client.writer).abort()
    await until(lambda: proxy.connection_count == 0)
    assert clean_flags == [is_clean]


async def test_data_sent_before_the_101_does_not_stop_reading(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await until(lambda: len(proxy.stage._reader.buffer) == 5)
        await connection.send(SPDY)
        await connection.read_exactly(10)
        await connection.send(b"both")

    target.handler = handler
    client = await upgrade(proxy, target, b"early")
    await client.read_head()
    await client.send(b"later")
    assert await client.reader.readexactly(4) == b"both"
    assert target.received.endswith(b"earlylater")
    client.close()
    await until(lambda: proxy.connection_count == 0)


@pytest.mark.parametrize(
    ("sent", "is_complete"),
    [
        pytest.param(b"", True, id="before the first frame"),
        pytest.param(b"\x82\x02ab", True, id="between two frames"),
        pytest.param(b"\x82\x02a", False, id="within a frame"),
    ],
)
async def test_a_websocket_gets_a_close_frame_between_two_frames(
    proxy: Proxy, target: FakeTarget, sent: bytes, is_complete: bool
) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(WEBSOCKET + sent)
        if not is_complete:
            await connection.read_exactly(4)
            await connection.send(b"b")
        await connection.read_some()

    target.handler = handler
    client = await upgrade(proxy, target, to="websocket")
    await client.read_head()
    assert await client.reader.readexactly(len(sent)) == sent
    connections = proxy.master.addons.get("connections")
    if not is_complete:
        connections.shut_down("end")
        await client.send(b"more")
        assert await client.reader.readexactly(1) == b"b"
    connections.shut_down("end")
    assert await client.read_to_eof() == b"\x88\x05\x03\xe9end"


async def test_other_protocols_get_no_close_frame(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(SPDY + b"a")
        await connection.read_some()

    target.handler = handler
    client = await upgrade(proxy, target)
    await client.read_head()
    assert await client.reader.readexactly(1) == b"a"
    proxy.master.addons.get("connections").shut_down("end")
    assert await client.read_to_eof() == b""
