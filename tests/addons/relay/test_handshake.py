"""TLS in a tunnel, before its first request."""

from pathlib import Path

from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def test_what_is_not_tls_in_a_tunnel_is_closed(proxy: Proxy, target: FakeTarget) -> None:
    stream, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await stream.read_to_eof()
    await until(lambda: proxy.connection_count == 0)
    assert target.connections == []


async def test_half_a_client_hello_is_closed_in_time(folder: Path, confdir: Path, target: FakeTarget) -> None:
    async with running_proxy(folder, confdir, connector_client_timeout="0.3") as proxy:
        stream, answer = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
        assert answer.status == 200
        await stream.send(b"\x16\x03\x01\x02\x00\x01\x00\x01")
        await stream.read_to_eof()
        await until(lambda: proxy.connection_count == 0)


async def test_a_tunnel_without_a_request_is_closed_in_time(folder: Path, confdir: Path, target: FakeTarget) -> None:
    async with running_proxy(folder, confdir, connector_client_timeout="0.3") as proxy:
        stream = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
        assert await stream.read_to_eof() == b""
        await until(lambda: proxy.connection_count == 0)


async def test_a_drain_that_begins_during_the_handshake_leaves_room_for_one_request(
    proxy: Proxy, target: FakeTarget
) -> None:
    authority = f"127.0.0.1:{target.port}"
    stream, _ = await proxy.connect(authority, f"{KEY}:{proxy.token(KEY)}")
    proxy.master.addons.get("connections").retire()
    await proxy.start_tls(stream, "127.0.0.1")
    await stream.send(f"GET /api HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    answer = await stream.read_response()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await stream.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)


async def test_who_is_asked_to_leave_before_the_handshake_leaves(proxy: Proxy, target: FakeTarget) -> None:
    stream, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    proxy.master.addons.get("connections").take_leave("the proxy ends")
    assert await stream.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
