"""Limits on unauthenticated clients do not affect authenticated callers."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from addons.access.unauthenticated import UnauthenticatedLimit
from addons.relay.gate import MAX_FIRST_HEAD
from addons.relay.handshake import MAX_HANDSHAKE
from connector_store.domain.callers.authorization_header import MAX_AUTHORIZATION_BYTES
from connector_store.token_bucket import TokenBucketBySource
from tests.fakes.proxy import PATIENCE, ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until


def set_limit(
    proxy: Proxy, *, max_unauthenticated: int = 100, max_unauthenticated_per_address: int = 100, max_wait: float = 60.0
) -> UnauthenticatedLimit:
    """Other limit than the machine's."""
    limit = UnauthenticatedLimit(
        max_unauthenticated=max_unauthenticated,
        max_unauthenticated_per_address=max_unauthenticated_per_address,
        max_open=100,
        max_wait=max_wait,
    )
    proxy.master.addons.get("connections").set_unauthenticated_limit(limit)
    return limit


async def lines(read_output: Callable[[], str], number: int, detail: str = "") -> list[dict[str, Any]]:
    """Return the first `number` audit lines, or of those about `detail`."""

    def records() -> list[dict[str, Any]]:
        every = [json.loads(each) for each in read_output().splitlines() if each.startswith('{"time"')]
        return [each for each in every if not detail or each.get("detail") == detail]

    await until(lambda: len(records()) >= number)
    return records()


async def get(stream: ClientConnection, authority: str) -> int:
    await stream.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % authority.encode())
    return (await stream.read_response()).status


@pytest.mark.parametrize("inside", [False, True], ids=["with a token", "with a token inside"])
async def test_at_the_limit_new_clients_wait_unread_and_authenticated_callers_continue(
    proxy: Proxy,
    target: FakeTarget,
    inside: bool,
    read_output: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = set_limit(proxy, max_unauthenticated=2, max_wait=0.1)
    token, authority = proxy.token("team-a/k8s"), f"127.0.0.1:{target.port}"
    caller = await proxy.tunnel(authority, f"team-a/k8s:{'x' if inside else token}")
    bearer = f"Authorization: Bearer {token}\r\n" if inside else ""
    data = f"GET /api HTTP/1.1\r\nHost: {authority}\r\n{bearer}\r\n".encode()
    await caller.send(data)
    assert (await caller.read_response()).status == 200
    assert limit.count == 0
    for _ in range(2):
        await proxy.open()
    await until(lambda: limit.count == 2)
    refused = await proxy.open()
    await refused.send(b"GET /ca.crt HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await refused.read_to_eof() == b""
    assert "connections are refused: 127.0.0.1 has waited for 0.1 s (1 so far)" in caplog.messages
    await caller.send(data)
    assert (await caller.read_response()).status == 200
    assert limit.refusal_count == 1
    records = [each for each in await lines(read_output, 4) if each["status"] == 0]
    assert [each["reason"] for each in records] == ["too many connections whose caller is not known"]


async def test_an_unauthenticated_client_that_closes_makes_room_for_another(proxy: Proxy) -> None:
    limit = set_limit(proxy, max_unauthenticated=1)
    first = await proxy.open()
    await until(lambda: limit.count == 1)
    second = await proxy.open()
    await second.send(b"GET /ca.crt HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: limit.waiting_count == 1)
    first.close()
    assert (await second.read_response()).status == 200
    assert limit.refusal_count == 0


async def test_all_callers_of_one_address_are_served_if_they_come_at_the_same_moment(
    folder: Path, confdir: Path, target: FakeTarget
) -> None:
    # On a busy machine, opening the connections alone takes seconds.
    async with running_proxy(folder, confdir, connector_client_timeout=f"{PATIENCE:.0f}") as proxy:
        token, authority, number = proxy.token("team-a/k8s"), f"127.0.0.1:{target.port}", 1000
        clients = [await proxy.open() for _ in range(number)]
        waiting = [proxy.connect(authority, f"team-a/k8s:{token}", client=client) for client in clients]
        assert [response.status for _, response in await asyncio.gather(*waiting)] == [200] * number
        assert "connector_refused_connections_total 0.0" in proxy.scrape()


async def test_a_drain_closes_the_clients_that_wait(proxy: Proxy) -> None:
    limit = set_limit(proxy, max_unauthenticated=0)
    client = await proxy.open()
    await until(lambda: limit.waiting_count == 1)
    proxy.master.addons.get("connections").drain()
    assert await client.read_to_eof() == b""


async def test_the_limit_of_one_address_does_not_affect_another(proxy: Proxy) -> None:
    limit = set_limit(proxy, max_unauthenticated_per_address=1)
    await proxy.open()
    await proxy.open()
    await until(lambda: (limit.count, limit.waiting_count) == (1, 1))
    with socket.create_connection(("127.0.0.1", proxy.port), source_address=("127.0.0.2", 0)):
        await until(lambda: limit.count == 2)


async def test_a_first_head_is_bounded_however_long_others_may_be(proxy: Proxy) -> None:
    stream = await proxy.open()
    await stream.send(b"CONNECT a:1 HTTP/1.1\r\nA: " + b"a" * MAX_FIRST_HEAD)
    response = await stream.read_response()
    assert response.status == 431
    assert f"{MAX_FIRST_HEAD} bytes" in response.phrase


async def test_a_handshake_is_bounded(proxy: Proxy, target: FakeTarget, read_output: Callable[[], str]) -> None:
    """The header of a ClientHello may announce 16 MB."""
    stream, response = await proxy.connect(f"127.0.0.1:{target.port}", "team-a/k8s:x")
    assert response.status == 200
    record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff\x03\x03" + b"\0" * (16384 - 6)
    next_record = b"\x16\x03\x01\x40\x00" + b"\0" * 16384
    for piece in (record, next_record, next_record):
        await stream.send(piece)
    assert await stream.read_to_eof() != b"HTTP"
    audit_record = (await lines(read_output, 2))[1]
    assert (audit_record["event"], audit_record["status"], audit_record["connector"]) == ("connect", 0, "team-a/k8s")
    assert audit_record["reason"].startswith(("TLS failed", f"the TLS handshake is longer than {MAX_HANDSHAKE} bytes"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", "it does not speak TLS", id="no TLS in a tunnel"),
        pytest.param(b"\x16\x03\x01\x00\x05\x01", "closed before CONNECT and TLS were whole", id="an end in between"),
    ],
)
async def test_handshakes_that_fail_are_in_the_audit_log(
    proxy: Proxy, target: FakeTarget, data: bytes, reason: str, read_output: Callable[[], str]
) -> None:
    token = proxy.token("team-a/k8s")
    stream, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"team-a/k8s:{token}")
    await stream.send(data)
    stream.writer.write_eof()
    await stream.read_to_eof()
    record = (await lines(read_output, 2))[1]
    assert (record["status"], record["reason"]) == (0, reason)
    assert record["caller"]["user"] != ""


@asynccontextmanager
async def open_tls(proxy: Proxy, host: str) -> AsyncIterator[bool]:
    """Yield True if an unauthenticated client gets a certificate for `host`."""
    stream, response = await proxy.connect(f"{host}:443", "team-a/k8s:x")
    assert response.status == 200
    try:
        await proxy.start_tls(stream, host)
    except OSError:
        yield False
    else:
        yield True
    stream.close()


async def test_above_the_limit_on_new_certificates_handshakes_wait_and_then_fail(
    proxy: Proxy, target: FakeTarget, read_output: Callable[[], str]
) -> None:
    limit = TokenBucketBySource(rate=10, burst=1, now=lambda: 0.0)
    proxy.context.certificates._limit = limit
    async with open_tls(proxy, "one.example") as is_served:
        assert is_served
    async with open_tls(proxy, "two.example") as is_served:
        assert is_served  # after 0.1 s
    proxy.context.certificates._limit = TokenBucketBySource(rate=0.1, burst=0, now=lambda: 0.0)
    async with open_tls(proxy, "three.example") as is_served:
        assert not is_served
    async with open_tls(proxy, "two.example") as is_served:
        assert is_served
    (record,) = await lines(read_output, 1, "three.example")
    assert record["reason"] == "too many new certificates for this address"
    stream = await proxy.tunnel_to(target)
    assert await get(stream, f"127.0.0.1:{target.port}") == 200
    assert "connector_refused_handshakes_total 1.0" in proxy.scrape()


def test_first_heads_have_room_for_the_longest_token() -> None:
    assert MAX_AUTHORIZATION_BYTES * 1.1 < MAX_FIRST_HEAD


async def test_the_limits_are_derived_from_descriptors(proxy: Proxy, confdir: Path) -> None:
    text = proxy.scrape()
    assert "connector_unauthenticated_connections 0.0" in text
    assert "connector_waiting_connections 0.0" in text
    assert "connector_refused_connections_total 0.0" in text
