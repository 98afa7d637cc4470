"""Direct access and TLS at the port, over real sockets: callers, requests at the target, and invalid input."""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from addons.net.sockets import CloseTimeouts
from addons.records.record import Record
from addons.relay.gate import Gate
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target
from lab.certificates import KeyPair
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, copy_confdir, running_proxy
from tests.fakes.relay import TcpRelay
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"
ALIAS = "c-k8s.team-a.svc.cluster.local"
PREFIX = "/kubernetes/global"


@pytest.fixture
def folder(tmp_path: Path, target: FakeTarget, target_ca: KeyPair) -> Path:
    """Connectors team-a/k8s and, below a path, team-a/other lead to `target`."""
    path = tmp_path / "connectors"
    path.mkdir()
    here = f"https://127.0.0.1:{target.port}"
    write(
        path,
        connector("k8s", here),
        connector("other", here + PREFIX, secret="other"),
        secret(ca=target_ca.pem),
        secret("other", token="other-target-token", ca=target_ca.pem),
    )
    return path


@pytest.fixture(params=["off", "on"], ids=["unwatched", "watched"])
async def proxy(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows=request.param) as running:
        yield running


def ask(target: str, token: str, *fields: str, host: str = "localhost", method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def status(stream: ClientConnection, request: bytes) -> int:
    await stream.send(request)
    return (await stream.read_response()).status


async def test_by_path_the_target_sees_its_own_request_with_its_own_token(proxy: Proxy, target: FakeTarget) -> None:
    stream = await proxy.open_tls()
    assert await status(stream, ask("/connectors/team-a/other/api?x=y", proxy.token("team-a/other"), "X-A: b")) == 200
    head, _, audit_id = target.received.partition(b"Audit-ID: ")
    assert re.sub(rb"1\.1 proxy-[0-9a-f]{16}", b"VIA", head) == (
        b"GET /kubernetes/global/api?x=y HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-A: b\r\nVia: VIA\r\n"
        b"Authorization: Bearer other-target-token\r\n" % target.port
    )
    assert audit_id.endswith(b"\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n")


async def test_by_host_too_and_so_without_tls(proxy: Proxy, target: FakeTarget) -> None:
    named = await proxy.open_tls(ALIAS)
    assert await status(named, ask("/api", proxy.token(KEY), host=ALIAS)) == 200
    plain = await proxy.open()
    assert await status(plain, ask("/connectors/team-a/k8s/api", proxy.token(KEY))) == 200
    assert target.received.count(f"Authorization: Bearer {TARGET_TOKEN}\r\n".encode()) == 2
    assert b"connectors" not in target.received
    assert b"cluster.local" not in target.received


async def test_requests_of_several_connectors_share_a_connection_and_nothing_else(
    proxy: Proxy, target: FakeTarget, records: list[Record]
) -> None:
    stream = await proxy.open_tls()
    for name in ("k8s", "other", "k8s"):
        assert await status(stream, ask(f"/connectors/team-a/{name}/api", proxy.token(f"team-a/{name}"))) == 200
    mine, others = (bytes(each.received) for each in target.connections)
    assert (mine.count(f"Bearer {TARGET_TOKEN}\r\n".encode()), mine.count(b"Bearer")) == (2, 2)
    assert (others.count(b"Bearer other-target-token\r\n"), others.count(b"Bearer")) == (1, 1)
    assert [str(each.connector) for each in records] == ["team-a/k8s", "team-a/other", "team-a/k8s"]
    assert {each.identity.user for each in records if each.identity} == {"team-a/k8s", "team-a/other"}
    stranger = await status(stream, ask("/connectors/team-a/other/api", proxy.token(KEY)))
    assert stranger == 403
    assert await stream.read_to_eof() == b""


async def test_basic_with_the_connectors_name_is_a_token_too(proxy: Proxy) -> None:
    stream = await proxy.open_tls()
    login = base64.b64encode(f"team-a%2Fk8s:{proxy.token(KEY)}".encode()).decode()
    await stream.send(
        f"GET /connectors/team-a/k8s/api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n\r\n".encode()
    )
    assert (await stream.read_response()).status == 200


async def test_a_body_and_an_upgrade_pass(proxy: Proxy, target: FakeTarget, records: list[Record]) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.read_exactly(5)
        await conversation.send(b"HTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n")
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
        while data := await conversation.read_some():
            await conversation.send(data.upper())

    target.handler = handler
    stream, token = await proxy.open_tls(), proxy.token(KEY)
    await stream.send(ask("/connectors/team-a/k8s/api", token, "Content-Length: 5", method="POST") + b"hello")
    assert (await stream.read_response()).status == 201
    path = "/connectors/team-a/k8s/api/v1/namespaces/a/pods/p/exec?command=ls"
    await stream.send(ask(path, token, "Connection: Upgrade", "Upgrade: SPDY/3.1", method="POST"))
    assert (await stream.read_head())[0] == 101
    await stream.send(b"abc")
    assert await stream.reader.readexactly(3) == b"ABC"
    stream.close()
    await until(lambda: len(records) == 3)
    assert [each.event for each in records] == ["request", "request", "stream"]


async def test_a_refusal_says_why_and_never_whether_a_connector_is_there(proxy: Proxy, target: FakeTarget) -> None:
    token, messages = proxy.token(KEY), []
    for name in ("other", "absent"):
        stream = await proxy.open_tls()
        await stream.send(ask(f"/connectors/team-a/{name}/api", token))
        answer = await stream.read_response()
        assert (answer.status, answer.headers["content-type"]) == (403, "application/json")
        assert answer.headers["warning"].startswith("299 ")
        messages.append(answer.json()["message"].replace(name, "NAME"))
    assert messages[0] == messages[1]
    assert target.received == b""


async def test_a_tunnel_within_tls_at_the_port_is_a_tunnel(proxy: Proxy, target: FakeTarget) -> None:
    here = f"127.0.0.1:{target.port}"
    stream, answer = await proxy.connect(here, f"{KEY}:{proxy.token(KEY)}", client=await proxy.open_tls("localhost"))
    assert answer.status == 200
    await proxy.start_tls(stream, "127.0.0.1")
    for _ in range(2):
        assert await status(stream, f"GET /api HTTP/1.1\r\nHost: {here}\r\n\r\n".encode()) == 200
    assert target.received.count(f"Bearer {TARGET_TOKEN}\r\n".encode()) == 2
    stream.writer.close()
    await until(lambda: proxy.connection_count == 0)


async def test_a_large_answer_waits_for_a_client_within_two_sessions(proxy: Proxy, target: FakeTarget) -> None:
    size, sent = 64_000_000, [0]

    def stuck() -> bool:
        """Count what the target can send while the proxy does not read it."""
        unread = [each for _, each in proxy.sockets._connections.values() if not each.is_reading]
        (conversation,) = target.connections
        return bool(unread) and conversation.writer.transport.get_write_buffer_size() > 0

    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent[0] < size:
            await conversation.send(b"x" * 64_000)
            sent[0] += 64_000

    target.handler = handler
    here = f"127.0.0.1:{target.port}"
    stream, _ = await proxy.connect(here, f"{KEY}:{proxy.token(KEY)}", client=await proxy.open_tls("localhost"))
    await proxy.start_tls(stream, "127.0.0.1")
    await stream.send(f"GET /api HTTP/1.1\r\nHost: {here}\r\n\r\n".encode())
    await stream.read_head()
    stream.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's TLS transport has it
    await until(stuck)
    # At most the buffers of the kernel, of two TLS sessions and of two asyncio streams.
    assert sent[0] < 32_000_000
    stream.writer.transport.resume_reading()  # type: ignore[attr-defined]  # ditto
    results = 0
    while results < size:
        results += len(await asyncio.wait_for(stream.reader.read(1 << 20), 120))
    assert results == size


async def test_the_pages_are_served_within_tls_too(proxy: Proxy) -> None:
    stream = await proxy.open_tls(ALIAS)
    await stream.send(f"GET /ca.crt HTTP/1.1\r\nHost: {ALIAS}\r\n\r\n".encode())
    assert (await stream.read_response()).body.startswith(b"-----BEGIN CERTIFICATE-----")


BAD = [
    pytest.param("localhost", "/connectors/team-a/k8s/../other/api", "localhost", 403, id="dots behind the path form"),
    pytest.param("localhost", "/connectors/team-a/k8s/%2e%2e/x", "localhost", 403, id="dots in disguise"),
    pytest.param("localhost", "/connectors/team-a%2fk8s/api", "localhost", 404, id="an escaped slash in the path form"),
    pytest.param("localhost", "/connectors/team-a/other/api", ALIAS, 421, id="a path and a host that differ"),
    pytest.param("localhost", "/api", ALIAS, 421, id="the host of a Connector, and the proxy's own server name"),
    pytest.param(ALIAS, "/api", "c-other.team-a.svc.cluster.local", 421, id="server name and host of two Connectors"),
    pytest.param(ALIAS, "/connectors/team-a/k8s/api", "localhost", 421, id="the server name of a Connector alone"),
    pytest.param("localhost", "/api", "localhost", 404, id="no Connector"),
]


@pytest.mark.parametrize(("server_name", "path", "host", "expected"), BAD)
async def test_bad_requests(
    proxy: Proxy, target: FakeTarget, server_name: str, path: str, host: str, expected: int
) -> None:
    stream = await proxy.open_tls(server_name)
    assert await status(stream, ask(path, proxy.token(KEY), host=host)) == expected
    assert await stream.read_to_eof() == b""
    assert target.received == b""


SPELLINGS = {
    "/connectors%2fteam-a/k8s/api": 404,
    "/connectors/team-a/k8s%2Fapi": 404,
    "/connectors/team-a/%6b8s/api": 404,
    "/%63onnectors/team-a/k8s/api": 404,
    "//connectors/team-a/k8s/api": 404,
    "/connectors//team-a/k8s/api": 404,
    "/connectors/./team-a/k8s/api": 404,
    "/connectors/team-a/../team-a/k8s/api": 404,
    "/connectors/../connectors/team-a/other/api": 404,
    "/connectors/team-a/k8s\\..\\other/api": 404,
    "/connectors/team-a/k8s/./api": 403,
    "/connectors/team-a/k8s/..%2fother/api": 403,
    "/connectors/team-a/k8s/..%5Cother/api": 403,
    "/connectors/team-a/k8s/%252e%252e/other/api": 403,
    "/connectors/team-a/k8s/;/../other/api": 403,
    "/connectors/team-a/k8s/.%2e;x/other/api": 403,
    "/connectors/team-a/k8s/api#/../other": 403,
}
"""Spellings of the path form with disguised slashes and dots, and their status. The client may use team-a/k8s."""


async def test_no_spelling_of_a_path_leads_elsewhere(proxy: Proxy, target: FakeTarget) -> None:
    token, results = proxy.token(KEY), dict[str, int]()
    for path in SPELLINGS:
        stream = await proxy.open_tls()
        results[path] = await status(stream, ask(path, token))
        stream.close()
    assert results == SPELLINGS
    assert target.received == b""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param([], 401, id="no token"),
        pytest.param(["Authorization: Bearer TOKEN", "Authorization: Bearer TOKEN"], 401, id="two"),
        pytest.param(["Authorization: Bearer TOKEN", "Proxy-Authorization: Basic TOKEN"], 401, id="in both headers"),
        pytest.param(["Authorization: Bearer nobody"], 401, id="of nobody"),
        pytest.param(["Authorization: Bearer TOKEN", "Impersonate-User: admin"], 403, id="and another name"),
    ],
)
async def test_tokens(proxy: Proxy, target: FakeTarget, fields: list[str], expected: int) -> None:
    stream = await proxy.open_tls()
    messages = ["GET /connectors/team-a/k8s/api HTTP/1.1", "Host: localhost", *fields, "", ""]
    await stream.send("\r\n".join(messages).replace("TOKEN", proxy.token(KEY)).encode())
    answer = await stream.read_response()
    assert answer.status == expected
    assert json.loads(answer.body)["kind"] == "Status"
    assert target.received == b""


@pytest.mark.parametrize("first", ["CONNECT", "TRACE"])
async def test_direct_access_refuses_connect_and_trace(proxy: Proxy, target: FakeTarget, first: str) -> None:
    stream, token = await proxy.open_tls(), proxy.token(KEY)
    assert await status(stream, ask("/connectors/team-a/k8s/api", token)) == 200
    authority = f"127.0.0.1:{target.port}" if first == "CONNECT" else "/connectors/team-a/k8s/api"
    assert await status(stream, ask(authority, token, method=first)) in (400, 404)
    assert await stream.read_to_eof() == b""
    assert target.received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16", id="the first byte"),
        pytest.param(b"\x16garbage that is no TLS at all, by far", id="garbage behind it"),
        pytest.param(b"\x16\x03\x01\x40\x00\x01" + b"a" * 16383, id="16 kB of it"),
        pytest.param(b"\x15\x03\x01\x00\x02\x01\x00", id="an alert"),
    ],
)
async def test_input_that_only_begins_like_tls_closes_the_connection(folder: Path, confdir: Path, data: bytes) -> None:
    async with running_proxy(folder, confdir, connector_client_timeout="0.3") as proxy:
        proxy.set_close_timeouts(CloseTimeouts(linger=0.3, poll=0.05))
        stream = await proxy.open()
        await stream.send(data)
        await stream.read_to_eof()
        await until(lambda: proxy.connection_count == 0)


class Session:
    """A client's TLS session at the port. `outgoing` is the last flight of its handshake, which is not sent yet."""

    def __init__(self, proxy: Proxy) -> None:
        self._incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(proxy.confdir / "mitmproxy-ca-cert.pem"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.tls = context.wrap_bio(self._incoming, self.outgoing, server_hostname="localhost")

    async def shake_hands(self, stream: ClientConnection) -> None:
        """Start the handshake, and send the ClientHello byte by byte."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        for byte in self.outgoing.read():
            await stream.send(bytes([byte]))
        while True:
            self._incoming.write(await stream.reader.read(65536))
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue


async def test_plain_http_after_the_start_of_tls_closes_the_connection_and_tls_may_come_in_pieces(proxy: Proxy) -> None:
    session, stream = Session(proxy), await proxy.open()
    await session.shake_hands(stream)
    await stream.send(session.outgoing.read() + b"GET / HTTP/1.1\r\n\r\n")
    await stream.read_to_eof()
    await until(lambda: proxy.connection_count == 0)


@pytest.mark.parametrize("at_once", [False, True], ids=["after the handshake", "with the end of the handshake"])
async def test_a_client_that_closes_tls_with_its_first_request_gets_no_response(proxy: Proxy, at_once: bool) -> None:
    session, stream = Session(proxy), await proxy.open()
    await session.shake_hands(stream)
    if not at_once:
        await stream.send(session.outgoing.read())
        await until(lambda: isinstance(proxy.stage, Gate))
    session.tls.write(ask("/connectors/team-a/k8s/api", proxy.token(KEY)))
    with pytest.raises(ssl.SSLWantReadError):
        session.tls.unwrap()
    await stream.send(session.outgoing.read())
    await stream.read_to_eof()
    await until(lambda: proxy.connection_count == 0)


async def test_tls_1_1_is_refused(proxy: Proxy) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    for bound in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
            setattr(context, bound, ssl.TLSVersion.TLSv1_1)
    stream = await proxy.open()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await stream.writer.start_tls(context, server_hostname="localhost")
    await until(lambda: proxy.connection_count == 0)


async def test_a_foreign_server_name_gets_the_default_certificate(proxy: Proxy) -> None:
    stream = await proxy.open()
    with pytest.raises(ssl.SSLCertVerificationError):
        await proxy.start_tls(stream, "evil.example")
    await proxy.open_tls("localhost")


async def test_additional_names_can_be_configured(folder: Path, confdir: Path) -> None:
    async with running_proxy(folder, confdir, connector_names="clusters.example") as proxy:
        stream = await proxy.open_tls("clusters.example")
        request = ask("/connectors/team-a/k8s/api", proxy.token(KEY), host="clusters.example")
        assert await status(stream, request) == 200


@pytest.mark.usefixtures("gone_at_once")
async def test_a_deleted_connector_closes_its_direct_connections(proxy: Proxy, target: FakeTarget) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await asyncio.Event().wait()

    target.handler = handler
    stream = await proxy.open_tls()
    await stream.send(ask("/connectors/team-a/k8s/api/v1/pods?watch=true", proxy.token(KEY)))
    await stream.read_head()
    (proxy.folder / "objects.yaml").unlink()
    assert not (await stream.read_to_eof()).endswith(b"0\r\n\r\n")
    await until(lambda: proxy.connection_count == 0)


async def redirect(conversation: TargetConnection, location: str) -> None:
    for _ in range(2):
        await conversation.read_head()
        await conversation.send(f"HTTP/1.1 307 T\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize("location", ["http://127.0.0.1:HOST/", "https://localhost:HOST/x", "//evil.example/x"])
@pytest.mark.parametrize("host", ["localhost", ALIAS])
async def test_a_redirect_to_another_server_is_refused(
    proxy: Proxy, target: FakeTarget, records: list[Record], host: str, location: str
) -> None:
    target.handler = lambda conversation: redirect(conversation, location.replace("HOST", str(target.port)))
    stream = await proxy.open_tls(host)
    path = "/api" if host == ALIAS else "/connectors/team-a/k8s/api"
    await stream.send(ask(path, proxy.token(KEY), host=host))
    response = await stream.read_response()
    assert response.status == 502
    assert "redirects to another server" in response.json()["message"]
    assert "location" not in response.headers
    assert await stream.read_to_eof() == b""
    assert [(record.status, record.cause) for record in records] == [(502, "target_redirect")]


@pytest.mark.parametrize("form", ["https://127.0.0.1:HOST" + PREFIX + "/api/", PREFIX + "/api/", "../api/"])
async def test_a_redirect_within_the_target_leads_back_to_the_proxy(
    proxy: Proxy, target: FakeTarget, form: str
) -> None:
    target.handler = lambda conversation: redirect(conversation, form.replace("HOST", str(target.port)))
    stream = await proxy.open_tls()
    await stream.send(ask("/connectors/team-a/other/x/y", proxy.token("team-a/other")))
    response = await stream.read_response()
    assert (response.status, response.headers["location"]) == (307, "/connectors/team-a/other/api/")
    assert await status(stream, ask(response.headers["location"], proxy.token("team-a/other"))) == 307
    assert b"GET /kubernetes/global/api/ HTTP/1.1" in target.received


async def test_a_redirect_in_a_tunnel_is_passed_unchanged(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = lambda conversation: redirect(conversation, "http://other.example/")
    authority = f"127.0.0.1:{target.port}"
    stream = await proxy.tunnel(authority, f"{KEY}:{proxy.token(KEY)}")
    await stream.send(f"GET /api HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    assert (await stream.read_response()).headers["location"] == "http://other.example/"


@pytest.mark.parametrize("host", ["localhost", ALIAS])
async def test_cookies_pass_by_alias_only(proxy: Proxy, target: FakeTarget, host: str) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    target.handler = handler
    stream = await proxy.open_tls(host)
    path = "/api" if host == ALIAS else "/connectors/team-a/k8s/api"
    await stream.send(ask(path, proxy.token(KEY), "Cookie: c=d", host=host))
    response = await stream.read_response()
    assert ("set-cookie" in response.headers) is (host == ALIAS)
    assert (b"Cookie: c=d" in target.received) is (host == ALIAS)


async def test_connectors_that_lead_to_each_other_make_no_loop(
    tmp_path: Path, target: FakeTarget, target_ca: KeyPair, confdir: Path, records: list[Record]
) -> None:
    """Connectors a and b lead to each other by a load balancer. Connector chain leads to end, and end to the target."""
    folder = tmp_path / "connectors"
    folder.mkdir()
    async with (
        running_proxy(folder, confdir) as proxy,
        TcpRelay(f"https://127.0.0.1:{proxy.port}").serving() as balancer,
    ):
        ca = (confdir / "mitmproxy-ca-cert.pem").read_bytes()
        path = "/connectors/team-a/"
        write(
            folder,
            connector("a", f"{balancer.url}{path}b", secret="b"),
            connector("b", f"{balancer.url}{path}a", secret="a"),
            connector("chain", f"{balancer.url}{path}end", secret="end"),
            connector("end", f"https://127.0.0.1:{target.port}"),
            *(secret(name, token=proxy.token(f"team-a/{name}"), ca=ca) for name in ("a", "b", "end")),
            secret(ca=target_ca.pem),
        )
        await until(lambda: isinstance(proxy.context.store.get(ObjectKey("team-a", "end")), Target))
        stream = await proxy.open_tls("localhost")
        assert await status(stream, ask(f"{path}chain/api", proxy.token("team-a/chain"))) == 200
        assert target.received.count(b"Via: 1.1 proxy-") == 2
        records.clear()
        await stream.send(ask(f"{path}a/api", proxy.token("team-a/a")))
        response = await stream.read_response()
        assert response.status == 508
        assert "leads back to the Connector" in response.json()["message"]
        await until(lambda: len(records) == 3)


@pytest.mark.parametrize("is_valid", [True, False], ids=["a caller", "a stranger"])
async def test_only_an_accepted_caller_keeps_the_certificate_of_an_alias(proxy: Proxy, is_valid: bool) -> None:
    certificates = proxy.context.certificates
    stream = await proxy.open_tls(ALIAS)
    names = certificates.names_at_port("127.0.0.1", ALIAS)
    assert certificates._accepted.get(names) is None
    assert await status(stream, ask("/api", proxy.token(KEY) if is_valid else "x", host=ALIAS)) == (
        200 if is_valid else 401
    )
    assert (certificates._accepted.get(names) is not None) is is_valid


async def test_a_loop_through_two_proxies_ends_at_its_second_pass(
    tmp_path: Path, target: FakeTarget, target_ca: KeyPair, confdir: Path, records: list[Record]
) -> None:
    """Connector a leads to itself at the other proxy. Connector chain leads to end there, and end to the target."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for each in folders:
        each.mkdir()
    path, ca = "/connectors/team-a/", (confdir / "mitmproxy-ca-cert.pem").read_bytes()
    async with (
        running_proxy(folders[0], confdir) as first,
        running_proxy(folders[1], copy_confdir(confdir, tmp_path / "confdir-2")) as second,
        TcpRelay(f"https://127.0.0.1:{first.port}").serving() as to_first,
        TcpRelay(f"https://127.0.0.1:{second.port}").serving() as to_second,
    ):
        for proxy, other, each in ((first, to_second, folders[0]), (second, to_first, folders[1])):
            write(
                each,
                connector("a", f"{other.url}{path}a", secret="a"),
                connector("chain", f"{other.url}{path}end", secret="end"),
                connector("end", f"https://127.0.0.1:{target.port}"),
                *(secret(name, token=proxy.token(f"team-a/{name}"), ca=ca) for name in ("a", "end")),
                secret(ca=target_ca.pem),
            )
        keys = [ObjectKey("team-a", name) for name in ("a", "chain", "end")]
        await until(lambda: all(isinstance(p.context.store.get(key), Target) for p in (first, second) for key in keys))
        stream = await first.open_tls("localhost")
        assert await status(stream, ask(f"{path}chain/api", first.token("team-a/chain"))) == 200
        records.clear()
        assert await status(stream, ask(f"{path}a/api", first.token("team-a/a"))) == 508
        await until(lambda: len(records) == 2)


@pytest.mark.parametrize("path", ["/connectors/team-a/k8s/api", "/kubeconfig"])
@pytest.mark.parametrize("header", ["Sec-Fetch-Site: cross-site", "Origin: https://evil.test"])
async def test_a_login_that_a_browser_stores_is_not_for_other_pages(
    proxy: Proxy, target: FakeTarget, path: str, header: str
) -> None:
    token = proxy.token(KEY)
    basic = "Basic " + base64.b64encode(f"team-a%2Fk8s:{token}".encode()).decode()
    results = []
    for authorization, origin in ((basic, header), (basic, "Origin: https://localhost"), (f"Bearer {token}", header)):
        stream = await proxy.open_tls("localhost")
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: {authorization}", origin, "", ""]
        await stream.send("\r\n".join(lines).encode())
        results.append((await stream.read_response()).status)
    assert results == [403, 200, 401 if path == "/kubeconfig" else 200]
    assert len(target.connections) <= 2


async def test_after_a_body_no_other_caller_of_the_same_client_gets_the_connection(
    proxy: Proxy, target: FakeTarget
) -> None:
    async def handler(conversation: TargetConnection) -> None:
        while b"Content-Length: 4" in await conversation.read_head():
            await conversation.read_exactly(4)
            await conversation.send(OK)
        await conversation.send(OK)

    target.handler = handler
    stream, path = await proxy.open_tls(), "/connectors/team-a/k8s/api"
    first, second = proxy.token(KEY), proxy.token(KEY)
    for token in (first, first, second):
        await stream.send(ask(path, token, "Content-Length: 4", method="POST") + b"body")
        assert (await stream.read_response()).status == 200
    assert [bytes(connection.received).count(b"POST") for connection in target.connections] == [2, 1]
