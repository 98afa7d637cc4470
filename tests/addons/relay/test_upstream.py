"""One target connection serves the requests of a tunnel, as long as it is the one that was decided on."""

import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.objects.models import Address
from connector_store.domain.objects.models import Target as Led
from connector_store.trust import TrustStore
from lab.certificates import KeyPair
from tests.fakes.below_tls import BelowTls
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def ask(client: ClientConnection, target: FakeTarget) -> int:
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    return (await client.read_response()).status


async def tunnel(proxy: Proxy, target: FakeTarget) -> ClientConnection:
    return await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")


async def test_a_new_token_is_used_by_the_next_request_on_the_same_connection(
    proxy: Proxy, target: FakeTarget, target_ca: KeyPair
) -> None:
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    before = proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    write(
        proxy.folder,
        connector("k8s", f"https://127.0.0.1:{target.port}"),
        secret(token="rotated-token", ca=target_ca.pem),
    )
    await until(lambda: proxy.shared.store.get(ObjectKey("team-a", "k8s")) != before)
    assert await ask(client, target) == 200
    (conversation,) = target.connections
    assert conversation.received.count(f"Bearer {TARGET_TOKEN}\r\n".encode()) == 1
    assert conversation.received.count(b"Bearer rotated-token\r\n") == 1


async def test_with_another_trust_the_old_connection_gets_no_credential(proxy: Proxy, target: FakeTarget) -> None:
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    # Contexts of a new store are other objects, as those of a changed CA.
    object.__setattr__(proxy.shared, "trust", TrustStore())
    assert await ask(client, target) == 200
    assert [each.received.count(b"Authorization: Bearer") for each in target.connections] == [1, 1]


async def test_the_next_connection_resumes_the_tls_session_of_the_one_before(proxy: Proxy, target: FakeTarget) -> None:
    resumed: list[bool] = []

    async def once(conversation: TargetConnection) -> None:
        resumed.append(conversation.writer.get_extra_info("ssl_object").session_reused)
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    target.handler = once
    for _ in range(2):
        client = await tunnel(proxy, target)
        assert await ask(client, target) == 200
        assert await client.read_to_eof() == b""
    assert resumed == [False, True]


async def test_another_address_refuses_the_next_request(proxy: Proxy, target: FakeTarget, target_ca: KeyPair) -> None:
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    before = proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    write(proxy.folder, connector("k8s", "https://127.0.0.1:1"), secret(ca=target_ca.pem))
    await until(lambda: proxy.shared.store.get(ObjectKey("team-a", "k8s")) != before)
    assert await ask(client, target) == 403
    assert target.received.count(b"Authorization") == 1


async def test_a_target_that_ends_between_requests_ends_the_tunnel(proxy: Proxy, target: FakeTarget) -> None:
    async def once(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(OK)

    target.handler = once
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    assert await client.read_to_eof() == b""


async def test_without_an_answer_on_a_used_connection_the_client_sees_what_it_would_see_without_us(
    proxy: Proxy, target: FakeTarget
) -> None:
    async def twice(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(OK)
        await conversation.read_head()

    target.handler = twice
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    await client.send(b"POST /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 0\r\n\r\n" % target.port)
    assert await client.read_to_eof() == b""
    assert (len(target.connections), target.received.count(b"POST /api")) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"key": ObjectKey("team-a", "other")}, id="another Connector"),
        pytest.param({"uid": "another"}, id="the Connector made anew"),
        pytest.param({"address": Address(host="127.0.0.1", port=1)}, id="another port"),
        pytest.param({"address": Address(host="localhost", port=6443)}, id="another host"),
        pytest.param({"ca": None}, id="another trust"),
        pytest.param({"credential": ClientCertificate(b"chain", b"key")}, id="a client certificate"),
    ],
)
async def test_it_is_good_for_what_it_was_made_for_and_nothing_else(
    proxy: Proxy, target: FakeTarget, other: dict[str, Any]
) -> None:
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    upstream, led = proxy.stage._upstream, proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(led, Led)
    for same in (led, replace(led), led):
        assert upstream.serves(same, proxy.shared.trust)
        assert not upstream.serves(replace(led, **other), proxy.shared.trust)


@pytest.mark.parametrize("said", [OK, b"\x17\x03\x03\x00\x40abc"], ids=["an answer to nothing", "half a record"])
async def test_it_is_looked_at_before_the_next_request_of_the_same_client(
    proxy: Proxy, target: FakeTarget, said: bytes
) -> None:
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    upstream, led = proxy.stage._upstream, proxy.shared.store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(led, Led)
    # From here on the proxy's event loop has no turn.
    BelowTls(target.connections[0].writer).write(said)
    assert not upstream.serves(led, proxy.shared.trust)


async def test_half_a_record_that_was_read_is_seen_before_the_next_request_too(
    proxy: Proxy, target: FakeTarget
) -> None:
    client = await tunnel(proxy, target)
    assert await ask(client, target) == 200
    upstream = proxy.stage._upstream
    BelowTls(target.connections[0].writer).write(b"\x17\x03\x03\x00\x40abc")
    await until(lambda: not upstream.at_rest)
    assert await ask(client, target) == 200
    assert [each.received.count(b"GET /api") for each in target.connections] == [1, 1]


async def test_a_target_that_wants_a_certificate_is_said_to_want_one(
    target_certificate: KeyPair, target_ca: KeyPair, tmp_path: Path, confdir: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "target.pem").write_bytes(target_certificate.combined_pem)
    context.load_cert_chain(tmp_path / "target.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def shake_hands(conversation: TargetConnection) -> None:
        """asyncio's own would close without the alert."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while came := await conversation.read_some():
            incoming.write(came)
            with suppress(ssl.SSLError):
                tls.do_handshake()
            await conversation.send(outgoing.read())

    async with FakeTarget(None, tmp_path, shake_hands) as target:
        write(tmp_path / "connectors", connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=target_ca.pem))
        async with running_proxy(tmp_path / "connectors", confdir) as proxy:
            client = await tunnel(proxy, target)
            await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
            answer = await client.read_response()
    assert answer.status == 502
    assert answer.json()["message"].endswith("team-a/k8s: TLS failed: tlsv13 alert certificate required")
