"""A connection to a target serves the requests of a tunnel while it matches the access decision."""

import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.objects.models import Address, Target
from connector_store.trust import TrustStore
from lab.certificates import KeyPair
from tests.fakes.below_tls import BelowTls
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until


async def ask(client: ClientConnection, target: FakeTarget) -> int:
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    return (await client.read_response()).status


async def test_a_new_token_is_used_by_the_next_request_on_the_same_connection(
    proxy: Proxy, target: FakeTarget, target_ca: KeyPair
) -> None:
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    before = proxy.context.store.get(ObjectKey("team-a", "k8s"))
    write(
        proxy.folder,
        connector("k8s", f"https://127.0.0.1:{target.port}"),
        secret(token="rotated-token", ca=target_ca.pem),
    )
    await until(lambda: proxy.context.store.get(ObjectKey("team-a", "k8s")) != before)
    assert await ask(client, target) == 200
    (connection,) = target.connections
    assert connection.received.count(f"Bearer {TARGET_TOKEN}\r\n".encode()) == 1
    assert connection.received.count(b"Bearer rotated-token\r\n") == 1


async def test_with_another_trust_store_the_old_connection_gets_no_credential(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    # A new trust store has other TLS contexts, as after a change of the CA.
    object.__setattr__(proxy.context, "trust", TrustStore())
    assert await ask(client, target) == 200
    assert [connection.received.count(b"Authorization: Bearer") for connection in target.connections] == [1, 1]


async def test_the_next_connection_resumes_the_previous_tls_session(proxy: Proxy, target: FakeTarget) -> None:
    resumed: list[bool] = []

    async def once(connection: TargetConnection) -> None:
        resumed.append(connection.writer.get_extra_info("ssl_object").session_reused)
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    target.handler = once
    for _ in range(2):
        client = await proxy.tunnel_to(target)
        assert await ask(client, target) == 200
        assert await client.read_to_eof() == b""
    assert resumed == [False, True]


async def test_another_address_refuses_the_next_request(proxy: Proxy, target: FakeTarget, target_ca: KeyPair) -> None:
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    before = proxy.context.store.get(ObjectKey("team-a", "k8s"))
    write(proxy.folder, connector("k8s", "https://127.0.0.1:1"), secret(ca=target_ca.pem))
    await until(lambda: proxy.context.store.get(ObjectKey("team-a", "k8s")) != before)
    assert await ask(client, target) == 403
    assert target.received.count(b"Authorization") == 1


async def test_eof_of_the_target_between_requests_closes_the_tunnel(proxy: Proxy, target: FakeTarget) -> None:
    async def once(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(OK)

    target.handler = once
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    assert await client.read_to_eof() == b""


async def test_if_a_reused_connection_fails_the_client_sees_eof_as_without_a_proxy(
    proxy: Proxy, target: FakeTarget
) -> None:
    async def twice(connection: TargetConnection) -> None:
        await connection.read_head()
        await connection.send(OK)
        await connection.read_head()

    target.handler = twice
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    await client.send(b"POST /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 0\r\n\r\n" % target.port)
    assert await client.read_to_eof() == b""
    assert (len(target.connections), target.received.count(b"POST /api")) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"key": ObjectKey("team-a", "other")}, id="another Connector"),
        pytest.param({"uid": "another"}, id="the Connector created again"),
        pytest.param({"address": Address(host="127.0.0.1", port=1)}, id="another port"),
        pytest.param({"address": Address(host="localhost", port=6443)}, id="another host"),
        pytest.param({"ca": None}, id="another trust"),
        pytest.param({"credential": ClientCertificate(b"chain", b"key")}, id="a client certificate"),
    ],
)
async def test_a_connection_serves_only_the_target_of_its_handshake(
    proxy: Proxy, target: FakeTarget, other: dict[str, Any]
) -> None:
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    upstream, current = proxy.stage._upstream, proxy.context.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(current, Target)
    for same in (current, replace(current), current):
        assert upstream.can_serve(same, proxy.context.trust)
        assert not upstream.can_serve(replace(current, **other), proxy.context.trust)


@pytest.mark.parametrize("data", [OK, b"\x17\x03\x03\x00\x40abc"], ids=["an unsolicited response", "a partial record"])
async def test_unread_input_is_noticed_before_the_next_request_of_the_same_client(
    proxy: Proxy, target: FakeTarget, data: bytes
) -> None:
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    upstream, current = proxy.stage._upstream, proxy.context.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(current, Target)
    # From here on, the event loop of the proxy does not run.
    BelowTls(target.connections[0].writer).write(data)
    assert not upstream.can_serve(current, proxy.context.trust)


async def test_a_partial_record_is_noticed_before_the_next_request_of_the_same_client(
    proxy: Proxy, target: FakeTarget
) -> None:
    client = await proxy.tunnel_to(target)
    assert await ask(client, target) == 200
    upstream = proxy.stage._upstream
    BelowTls(target.connections[0].writer).write(b"\x17\x03\x03\x00\x40abc")
    await until(lambda: not upstream.is_idle)
    assert await ask(client, target) == 200
    assert [connection.received.count(b"GET /api") for connection in target.connections] == [1, 1]


async def test_the_refusal_says_that_the_target_requires_a_client_certificate(
    target_certificate: KeyPair, target_ca: KeyPair, tmp_path: Path, confdir: Path
) -> None:
    context = target_certificate.server_context()
    context.verify_mode = ssl.CERT_REQUIRED

    async def handshake(connection: TargetConnection) -> None:
        """Complete the handshake. asyncio would close without the alert."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while data := await connection.read_some():
            incoming.write(data)
            with suppress(ssl.SSLError):
                tls.do_handshake()
            await connection.send(outgoing.read())

    async with FakeTarget(None, handshake) as target:
        write(tmp_path / "connectors", connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=target_ca.pem))
        async with running_proxy(tmp_path / "connectors", confdir) as proxy:
            client = await proxy.tunnel_to(target)
            await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
            response = await client.read_response()
    assert response.status == 502
    assert response.json()["message"].endswith("team-a/k8s: TLS failed: tlsv13 alert certificate required")
