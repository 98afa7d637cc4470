"""Messages that servers could read in two ways never reach a target. Real sockets, judged by another parser (h11)."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import h11
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.certificates import make_ca, make_leaf
from tests.addons.judge import Field, Message, read
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import Proxy, copy_confdir, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import PATIENCE, until
from tests.fuzz import examples

pytestmark = pytest.mark.slow

MARK = b"/smuggled"
HOST = b"Host: 127.0.0.1:PORT\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
LONG_ENOUGH = 2.0
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ODD = [
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b":",
    b";",
    b",",
    b"+",
    b"-",
    b"\x7f",
    b"\x80",
    b"\r\n",
    b"\r\n ",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    confdir_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Proxy, FakeTarget]]:
    home = tmp_path_factory.mktemp("ambiguous")
    ca = make_ca("target CA")
    async with FakeTarget(make_leaf(ca, ["127.0.0.1"]), swallow) as target:
        folder = home / "connectors"
        folder.mkdir()
        write(folder, connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=ca.pem))
        async with running_proxy(folder, copy_confdir(confdir_template, home / "confdir")) as proxy:
            yield proxy, target


async def swallow(conversation: TargetConnection) -> None:
    """Respond to each message that h11 recognizes."""
    peer = h11.Connection(h11.SERVER)
    while data := await conversation.read_some():
        peer.receive_data(data)
        while True:
            event = peer.next_event()
            if isinstance(event, h11.EndOfMessage):
                await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                if peer.their_state is h11.MUST_CLOSE:
                    return
                peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                peer.send(h11.EndOfMessage())
                peer.start_next_cycle()
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                break


async def received_by_target(world: tuple[Proxy, FakeTarget], message: bytes, patience: float = LONG_ENOUGH) -> bytes:
    """Return all bytes that the target received after a caller sent `message` and waited for the end of the connection.

    A request with an incomplete body never ends. The caller closes after `patience` seconds without a response.
    """
    proxy, target = world
    before = {id(each): len(each.received) for each in target.connections}
    client = await proxy.tunnel_to(target)
    await client.send(fill_in(message, target))
    with suppress(OSError, TimeoutError):
        while await asyncio.wait_for(client.reader.read(65536), patience):
            pass
    client.close()
    # The target has read everything once its connections have ended or are idle.
    pool = proxy.context.upstream_pool
    await until(lambda: proxy.connection_count == 0 and target.open_count == len(pool))
    return b"".join(bytes(each.received[before.get(id(each), 0) :]) for each in target.connections)


def fill_in(message: bytes, target: FakeTarget) -> bytes:
    """Return the bytes that the caller sends."""
    return (message + LAST).replace(b"PORT", b"%d" % target.port)


AMBIGUOUS = [
    pytest.param(
        b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n", id="both lengths"
    ),
    pytest.param(b"POST /a HTTP/1.1\r\n" + HOST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n", id="both, reversed"),
    pytest.param(b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n", id="two lengths"),
    pytest.param(b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 0, 9\r\n\r\n", id="a list of lengths"),
    *(
        pytest.param(
            b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: " + value + b"\r\n\r\n", id=f"the length {value!r}"
        )
        for value in (b"+0", b"-0", b"0x0", b"0_0", b"", b"0 0", b"\x0b0", b"9" * 40)
    ),
    *(
        pytest.param(
            b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: " + v + b"\r\n\r\n0\r\n\r\n", id=f"the coding {v!r}"
        )
        for v in (
            b"chunked, chunked",
            b"gzip, chunked",
            b"identity",
            b"xchunked",
            b"\x0bchunked",
            b'"chunked"',
            b"chunked;a=b",
        )
    ),
    pytest.param(b"POST /a HTTP/1.1\r\n" + HOST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n", id="chunked twice"),
    pytest.param(b"POST /a HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", id="chunked in HTTP/1.0"),
    pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + b"X: a\r\n folded\r\n\r\n", id="a folded line"),
    pytest.param(b"GET /a HTTP/1.1\n" + HOST + b"\r\n", id="a bare LF after the request line"),
    pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + b"X: a\n\r\n", id="a bare LF after a field"),
    pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", id="a bare CR in a field"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost : 127.0.0.1:PORT\r\n\r\n", id="a space before the colon"),
    pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n", id="a field without colon"),
    pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + b"X: \0\r\n\r\n", id="a NUL"),
    pytest.param(b"GET  /a HTTP/1.1\r\n" + HOST + b"\r\n", id="two spaces in the request line"),
    pytest.param(b"GET\t/a HTTP/1.1\r\n" + HOST + b"\r\n", id="a tab in the request line"),
    pytest.param(b"GET /a\r\n" + HOST + b"\r\n", id="no version"),
    pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + HOST + b"\r\n", id="two hosts"),
    pytest.param(b"GET https://127.0.0.1:PORT/a HTTP/1.1\r\n" + HOST + b"\r\n", id="the absolute form"),
    pytest.param(b"\r\n\r\nGET /a HTTP/1.1\r\n" + HOST + b"\r\n", id="empty lines first"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("message", AMBIGUOUS)
async def test_an_ambiguous_message_and_what_follows_it_do_not_reach_the_target(
    world: tuple[Proxy, FakeTarget], message: bytes
) -> None:
    assert await received_by_target(world, message + SMUGGLED) == b""


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "chunk",
    [
        b"0x1\r\na\r\n", b"+1\r\na\r\n", b"-1\r\na\r\n", b" 1\r\na\r\n", b"1 \r\na\r\n", b"1\na\r\n",
        b"1\r\nab\r\n", b"1\r\na\n",
        b"1;\n\r\na\r\n", b"1;a\rb\r\na\r\n", b"\r\n", b"g\r\na\r\n", b"1_0\r\na\r\n", b"f" * 20 + b"\r\n",
    ],
)  # fmt: skip
async def test_behind_an_ambiguous_chunk_nothing_is_a_request(world: tuple[Proxy, FakeTarget], chunk: bytes) -> None:
    message = b"POST /a HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n" + chunk + b"0\r\n\r\n"
    assert MARK not in await received_by_target(world, message + SMUGGLED)


GOOD = (
    b"POST /a HTTP/1.1\r\n"
    + HOST
    + b"X-A: one\r\n"
    + CHUNKED
    + b"\r\n3\r\nabc\r\n0\r\n\r\nGET /b HTTP/1.1\r\n"
    + HOST
    + b"\r\n"
)


@pytest.mark.fuzz
@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=examples(60))
@given(place=st.integers(0, len(GOOD)), odd=st.sampled_from(ODD), cut=st.integers(0, 2))
async def test_every_odd_byte_gives_the_target_whole_messages_or_none(
    world: tuple[Proxy, FakeTarget], place: int, odd: bytes, cut: int
) -> None:
    """Another parser finds no fault in the received bytes, and only requests that it finds in the sent bytes."""
    message = GOOD[:place] + odd + GOOD[place + cut :]
    arrived_messages = read(await asyncio.wait_for(received_by_target(world, message), 2 * PATIENCE))
    assert not arrived_messages.fault
    sent_messages = read(fill_in(message, world[1])).messages
    assert len(arrived_messages.messages) <= len(sent_messages)
    for arrived, expected in zip(arrived_messages.messages, sent_messages, strict=False):
        assert_passed_on(arrived, expected, b"127.0.0.1:%d" % world[1].port)


@pytest.mark.asyncio(loop_scope="module")
async def test_unambiguous_messages_arrive(world: tuple[Proxy, FakeTarget]) -> None:
    arrived_messages = read(await received_by_target(world, GOOD, patience=PATIENCE))
    assert [(each.target, bytes(each.body), each.whole) for each in arrived_messages.messages] == [
        (b"/a", b"abc", True),
        (b"/b", b"", True),
        (b"/last", b"", True),
    ]


def assert_passed_on(arrived: Message, expected: Message, host: bytes) -> None:
    """Assert that the target got the caller's request, maybe truncated, with the credential and no other change."""
    assert (arrived.method, arrived.target) == (expected.method, expected.target)
    assert [value for name, value in arrived.fields if name.lower() == b"host"] == [host]
    (audit_id,) = [value for name, value in arrived.fields if name == b"Audit-ID"]
    assert uuid.UUID(audit_id.decode())
    assert [value for name, value in arrived.fields if name == b"X-Forwarded-For"] == [b"127.0.0.1"]
    own_fields = (b"Audit-ID", b"X-Forwarded-For")
    assert [each for each in arrived.fields if each[0] not in own_fields] == expected_fields(expected)
    assert expected.body.startswith(arrived.body)
    assert arrived.body == expected.body or not arrived.whole


def expected_fields(expected: Message) -> list[Field]:
    hop_by_hop = (b"connection", b"transfer-encoding")
    chunked = [each for each in expected.fields if each[0].lower() == b"transfer-encoding"]
    forwarded = [each for each in expected.fields if each[0].lower() not in hop_by_hop]
    return [*forwarded, (b"Authorization", f"Bearer {TARGET_TOKEN}".encode()), *chunked]
