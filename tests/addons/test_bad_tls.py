"""Input that is not TLS, or that abuses TLS, at the port and in a tunnel. It only closes the connection."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from OpenSSL import SSL

from tests.fakes.proxy import Proxy
from tests.fakes.raw_tls import RawTls
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

KEY = "team-a/k8s"
ALIAS = "c-k8s.team-a.svc.cluster.local"
EARLY_DATA, PRE_SHARED_KEY = 42, 41
"""Extensions of RFC 8446 section 4.2."""

Opener = Callable[[Proxy, FakeTarget, SSL.Context | None], Awaitable[tuple[RawTls, str]]]


async def at_the_port(proxy: Proxy, target: FakeTarget, context: SSL.Context | None = None) -> tuple[RawTls, str]:
    """Return a client before its handshake, and the first lines of a valid request."""
    head = f"GET /connectors/team-a/k8s/api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {proxy.token(KEY)}"
    return RawTls(await proxy.open(), "localhost", context), head


async def in_a_tunnel(proxy: Proxy, target: FakeTarget, context: SSL.Context | None = None) -> tuple[RawTls, str]:
    stream, response = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    assert response.status == 200
    return RawTls(stream, "", context), f"GET /api HTTP/1.1\r\nHost: 127.0.0.1:{target.port}"


BOTH = pytest.mark.parametrize("open_client", [at_the_port, in_a_tunnel], ids=["at the port", "in a tunnel"])


async def ask(client: RawTls, head: str, *fields: str) -> bytes:
    """Send a request and return the result of the first read."""
    await client.send("\r\n".join([head, *fields, "", ""]).encode())
    return await client.read_some()


def hello_of(client: RawTls) -> bytes:
    with pytest.raises(SSL.WantReadError):
        client.tls.do_handshake()
    return client.read_outgoing()


async def still_serves(proxy: Proxy, target: FakeTarget) -> None:
    client, head = await at_the_port(proxy, target)
    await client.handshake()
    assert (await ask(client, head)).startswith(b"HTTP/1.1 200 ")
    client.client.close()
    await until(lambda: proxy.connection_count == 0)


@BOTH
async def test_a_client_cannot_shake_hands_again(proxy: Proxy, target: FakeTarget, open_client: Opener) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    # TLS 1.3 has no renegotiation.
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client, head = await open_client(proxy, target, context)
    await client.handshake()
    assert (await ask(client, head)).startswith(b"HTTP/1.1 200 ")
    client.tls.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        await client.handshake()
    client.client.close()
    await still_serves(proxy, target)


@BOTH
async def test_no_client_is_offered_early_data(proxy: Proxy, target: FakeTarget, open_client: Opener) -> None:
    client, head = await open_client(proxy, target, None)
    await client.handshake()
    assert (await ask(client, head)).startswith(b"HTTP/1.1 200 ")
    session = client.tls.get_session()
    assert session is not None
    lib = SSL._lib  # type: ignore[attr-defined]  # pyOpenSSL does not show it
    assert lib.SSL_SESSION_get_max_early_data(session._session) == 0


def with_early_data(hello: bytes) -> bytes:
    """Change a ClientHello so that it resumes an unknown session and announces early data."""
    ticket = b"\x00\x20" + b"t" * 32 + bytes(4)
    identities, binders = len(ticket).to_bytes(2) + ticket, b"\x00\x21\x20" + b"b" * 32
    keys = identities + binders
    added = EARLY_DATA.to_bytes(2) + b"\x00\x00" + PRE_SHARED_KEY.to_bytes(2) + len(keys).to_bytes(2) + keys
    body = hello[9:]
    position = 34
    position += 1 + body[position]
    position += 2 + int.from_bytes(body[position : position + 2])
    position += 1 + body[position]
    extensions = body[position + 2 :] + added
    body = body[:position] + len(extensions).to_bytes(2) + extensions
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


@BOTH
async def test_early_data_is_no_request_and_has_a_bound(proxy: Proxy, target: FakeTarget, open_client: Opener) -> None:
    client, _ = await open_client(proxy, target, None)
    await client.client.send(with_early_data(hello_of(client)))
    record = b"\x17\x03\x03\x10\x00" + b"e" * 4096
    with suppress(OSError):
        await client.client.send(record * 20)
    response = await client.client.read_to_eof()
    # A ServerHello: the proxy understood the ClientHello and does not resume the session.
    assert response.startswith(b"\x16\x03\x03")
    await still_serves(proxy, target)
    assert target.received.count(b"GET ") == 1


@pytest.mark.parametrize("moment", ["after the ClientHello", "after the handshake"])
@BOTH
async def test_plain_http_where_tls_has_begun_ends(
    proxy: Proxy, target: FakeTarget, open_client: Opener, moment: str
) -> None:
    client, head = await open_client(proxy, target, None)
    if moment == "after the handshake":
        await client.handshake()
    else:
        await client.client.send(hello_of(client))
        assert await client.feed()
    with suppress(OSError):
        await client.client.send(f"{head}\r\n\r\n".encode())
    assert b"HTTP/1.1" not in await client.client.read_to_eof()
    await until(lambda: proxy.connection_count == 0)
    assert target.received == b""


@BOTH
async def test_a_client_hello_of_16_kb_is_one(proxy: Proxy, target: FakeTarget, open_client: Opener) -> None:
    client, head = await open_client(proxy, target, None)
    client.tls.set_alpn_protos([b"http/1.1", *(b"%0250d" % number for number in range(58))])
    hello = hello_of(client)
    assert 16_000 < len(hello) <= 16_384
    half = len(hello) // 2
    await client.client.send(hello[:half])
    await client.client.send(hello[half:])
    assert await client.feed()
    await client.handshake()
    assert client.tls.get_alpn_proto_negotiated() == b"http/1.1"
    assert (await ask(client, head)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("name", "host", "path", "status"),
    [
        pytest.param("", "localhost", "/connectors/team-a/k8s/api", 200, id="none, and the path form"),
        pytest.param("", ALIAS, "/api", 421, id="none, and the host form"),
        pytest.param("evil.example", "localhost", "/connectors/team-a/k8s/api", 200, id="foreign, and the path form"),
        pytest.param("evil.example", ALIAS, "/api", 421, id="foreign, and the host form"),
        pytest.param("evil.example", "evil.example", "/api", 404, id="foreign, and the same host"),
        pytest.param("c-other.team-a.svc.cluster.local", ALIAS, "/api", 421, id="of another Connector than Host"),
        pytest.param(ALIAS.upper(), ALIAS, "/api", 200, id="in capital letters"),
    ],
)
async def test_server_names(proxy: Proxy, target: FakeTarget, name: str, host: str, path: str, status: int) -> None:
    client = RawTls(await proxy.open(), name)
    await client.handshake()
    response = await ask(client, f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {proxy.token(KEY)}")
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert (target.received == b"") is (status != 200)
