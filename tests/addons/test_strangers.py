"""Strangers: what is not authenticated is bounded, and those who are known go on."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from addons.access.unauthenticated import UnauthenticatedLimit
from addons.relay.gate import MAX_FIRST_HEAD
from addons.relay.handshake import MAX_HANDSHAKE
from connector_store.domain.callers.authorization_header import MAX_AUTHORIZATION_BYTES
from connector_store.token_bucket import TokenBucket
from tests.fakes.proxy import ClientConnection, Proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until


def bound(proxy: Proxy, **changes: int) -> UnauthenticatedLimit:
    """Other bounds than the machine's."""
    most = {"most": 100, "most_of_one": 100, "most_open": 100} | changes
    found = UnauthenticatedLimit(
        max_unauthenticated=most["most"],
        max_unauthenticated_per_address=most["most_of_one"],
        max_open=most["most_open"],
    )
    proxy.master.addons.get("connections").bound(found)
    return found


async def lines(capsys: pytest.CaptureFixture[str], number: int) -> list[dict[str, Any]]:
    """The first so many audit lines."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(json.loads(each) for each in capsys.readouterr().out.splitlines() if each.startswith('{"time"'))
        return len(found) >= number

    await until(enough)
    return found


async def get(stream: ClientConnection, authority: str) -> int:
    await stream.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % authority.encode())
    return (await stream.read_response()).status


@pytest.mark.parametrize("inside", [False, True], ids=["with a token", "with a token inside"])
async def test_at_the_bound_new_strangers_are_refused_and_known_callers_go_on(
    proxy: Proxy, target: FakeTarget, inside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = bound(proxy, most=2)
    token, authority = proxy.token("team-a/k8s"), f"127.0.0.1:{target.port}"
    known = await proxy.tunnel(authority, f"team-a/k8s:{'x' if inside else token}")
    bearer = f"Authorization: Bearer {token}\r\n" if inside else ""
    said = f"GET /api HTTP/1.1\r\nHost: {authority}\r\n{bearer}\r\n".encode()
    await known.send(said)
    assert (await known.read_response()).status == 200
    assert bounds.count == 0
    for _ in range(2):
        await proxy.open()
    await until(lambda: bounds.count == 2)
    refused = await proxy.open()
    assert await refused.read_to_eof() == b""
    await known.send(said)
    assert (await known.read_response()).status == 200
    assert bounds.refusal_count == 1
    found = [each for each in await lines(capsys, 4) if each["status"] == 0]
    assert [each["reason"] for each in found] == ["too many connections whose caller is not known"]


async def test_a_stranger_that_leaves_gives_its_place_to_another(proxy: Proxy) -> None:
    bounds = bound(proxy, most=1)
    first = await proxy.open()
    await until(lambda: bounds.count == 1)
    first.close()
    await until(lambda: bounds.count == 0)
    second = await proxy.open()
    await second.send(b"GET /ca.crt HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await second.read_response()).status == 200


async def test_one_address_takes_no_place_of_another(proxy: Proxy) -> None:
    bounds = bound(proxy, most_of_one=1)
    await proxy.open()
    await until(lambda: bounds.count == 1)
    assert await (await proxy.open()).read_to_eof() == b""
    with socket.create_connection(("127.0.0.1", proxy.port), source_address=("127.0.0.2", 0)):
        await until(lambda: bounds.count == 2)


async def test_a_first_head_is_bounded_however_long_others_may_be(proxy: Proxy) -> None:
    stream = await proxy.open()
    await stream.send(b"CONNECT a:1 HTTP/1.1\r\nA: " + b"a" * MAX_FIRST_HEAD)
    answer = await stream.read_response()
    assert answer.status == 431
    assert f"{MAX_FIRST_HEAD} bytes" in answer.phrase


async def test_a_handshake_is_bounded(proxy: Proxy, target: FakeTarget, capsys: pytest.CaptureFixture[str]) -> None:
    """A ClientHello may say that it has 16 MB."""
    stream, answer = await proxy.connect(f"127.0.0.1:{target.port}", "team-a/k8s:x")
    assert answer.status == 200
    record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff\x03\x03" + b"\0" * (16384 - 6)
    more = b"\x16\x03\x01\x40\x00" + b"\0" * 16384
    for piece in (record, more, more):
        await stream.send(piece)
    assert await stream.read_to_eof() != b"HTTP"
    failed = (await lines(capsys, 2))[1]
    assert (failed["event"], failed["status"], failed["connector"]) == ("connect", 0, "team-a/k8s")
    assert failed["reason"].startswith(("TLS failed", f"the TLS handshake is longer than {MAX_HANDSHAKE} bytes"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", "it does not speak TLS", id="no TLS in a tunnel"),
        pytest.param(b"\x16\x03\x01\x00\x05\x01", "closed before CONNECT and TLS were whole", id="an end in between"),
    ],
)
async def test_handshakes_that_fail_are_in_the_audit_log(
    proxy: Proxy, target: FakeTarget, said: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = proxy.token("team-a/k8s")
    stream, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"team-a/k8s:{token}")
    await stream.send(said)
    stream.writer.write_eof()
    await stream.read_to_eof()
    failed = (await lines(capsys, 2))[1]
    assert (failed["status"], failed["reason"]) == (0, reason)
    assert failed["caller"]["user"] != ""


@asynccontextmanager
async def handshaking(proxy: Proxy, host: str) -> AsyncIterator[bool]:
    """Whether a stranger gets a certificate for that host."""
    stream, answer = await proxy.connect(f"{host}:443", "team-a/k8s:x")
    assert answer.status == 200
    try:
        await proxy.start_tls(stream, host)
    except OSError:
        yield False
    else:
        yield True
    stream.close()


async def test_invented_names_take_no_certificate_from_connectors(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    issued = proxy.shared.certificates
    monkeypatch.setattr(issued, "_unknown_limit", TokenBucket(rate=1, burst=1, now=lambda: 0.0))
    async with handshaking(proxy, "one.example") as served:
        assert served
    async with handshaking(proxy, "two.example") as served:
        assert not served
    stream = await proxy.tunnel(f"127.0.0.1:{target.port}", f"team-a/k8s:{proxy.token('team-a/k8s')}")
    assert await get(stream, f"127.0.0.1:{target.port}") == 200
    assert not any(each.levelname == "ERROR" for each in caplog.records)


def test_first_heads_have_room_for_the_longest_token() -> None:
    assert MAX_AUTHORIZATION_BYTES * 1.1 < MAX_FIRST_HEAD


async def test_the_bounds_are_derived_from_descriptors(proxy: Proxy, confdir: Path) -> None:
    text = proxy.master.addons.get("lifecycle")._records.metrics.render().decode()
    assert "connector_unauthenticated_connections 0.0" in text
    assert "connector_refused_connections_total 0.0" in text
