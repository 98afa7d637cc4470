"""TLS handshake in a tunnel, before the first request."""

from tests.fakes.proxy import Proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def test_plaintext_in_a_tunnel_closes_it(proxy: Proxy, target: FakeTarget) -> None:
    client, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.read_to_eof()
    await until(lambda: proxy.connection_count == 0)
    assert target.connections == []


def set_client_timeout(proxy: Proxy, seconds: float) -> None:
    """Set the timeout of stages that begin later."""
    object.__setattr__(proxy.context.timeouts, "client", seconds)


async def test_a_partial_client_hello_times_out(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.open()
    await until(lambda: proxy.connection_count == 1)
    set_client_timeout(proxy, 0.3)
    _, response = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}", client=client)
    assert response.status == 200
    await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01")
    await client.read_to_eof()
    await until(lambda: proxy.connection_count == 0)


async def test_a_tunnel_without_a_request_times_out(proxy: Proxy, target: FakeTarget) -> None:
    client, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    set_client_timeout(proxy, 0.3)
    await proxy.start_tls(client, "127.0.0.1")
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)


async def test_after_a_drain_during_the_handshake_one_request_is_served(proxy: Proxy, target: FakeTarget) -> None:
    authority = f"127.0.0.1:{target.port}"
    client, _ = await proxy.connect(authority, f"{KEY}:{proxy.token(KEY)}")
    proxy.master.addons.get("connections").drain()
    await proxy.start_tls(client, "127.0.0.1")
    await client.send(f"GET /api HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    response = await client.read_response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)


async def test_a_shutdown_closes_a_connection_before_its_handshake(proxy: Proxy, target: FakeTarget) -> None:
    client, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    proxy.master.addons.get("connections").shut_down("the proxy ends")
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
