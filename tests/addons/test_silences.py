"""A silent peer times out: the connection closes on both sides in its documented time, and no task stays."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from connector_store.resolver import Resolver
from lab.certificates import KeyPair, make_leaf
from tests.fakes.manifests import connector, secret, write
from tests.fakes.name_server import NameServer
from tests.fakes.proxy import PATIENCE, ClientConnection, Proxy, Response, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

KEY = "team-a/k8s"
SILENT = "team-a/silent"
CONFIGURED = 3
"""Seconds of the timeouts. A connection must get to its silence within them, also on a busy machine."""
TICK = 0.1
"""Seconds between two ticks of the event loop that runs the proxy."""


@pytest.fixture
async def short_timeouts(folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    """Proxy with timeouts of CONFIGURED seconds for clients and targets."""
    timeouts = {f"connector_{peer}_timeout": str(CONFIGURED) for peer in ("client", "connect")}
    async with running_proxy(folder, confdir, **timeouts) as proxy:
        before = len(asyncio.all_tasks())
        yield proxy
        proxy.close()
        await until(lambda: proxy.connection_count == 0 and len(asyncio.all_tasks()) <= before)
        assert not proxy.context.access_context.connection_counts


@pytest.fixture
def full_port() -> Iterator[int]:
    """Port of a listener whose queue is full, so the kernel drops every further SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        yield port
        for client in waiting:
            client.close()


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """Listener whose connections the kernel accepts, and that sends nothing."""
    with socket.socket() as listener:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener


@asynccontextmanager
async def configured_time() -> AsyncIterator[None]:
    """Assert that the body of this context takes the configured time: no less, and not much more.

    The maximum is a number of ticks of the event loop, so a pause of this process does not count.
    """
    tick_count = 0

    async def tick() -> None:
        nonlocal tick_count
        while True:
            await asyncio.sleep(TICK)
            tick_count += 1

    began, ticking = time.monotonic(), asyncio.ensure_future(tick())
    yield
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    assert time.monotonic() - began >= CONFIGURED - 0.1
    assert tick_count * TICK < CONFIGURED + 4


async def accepted(mute: socket.socket) -> socket.socket:
    """Return the target's side of the next connection to `mute`."""
    connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(mute), PATIENCE)
    return connection


async def closed_by_the_proxy(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        with connection, suppress(ConnectionResetError):
            while await loop.sock_recv(connection, 65536):
                pass


def get(port: int) -> bytes:
    return b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="a client that says nothing"),
        pytest.param(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127", id="half a CONNECT"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="half a ClientHello"),
    ],
)
async def test_a_client_without_a_whole_connect_is_closed(short_timeouts: Proxy, data: bytes) -> None:
    async with configured_time():
        client = await short_timeouts.open()
        await client.send(data)
        assert await client.read_to_eof() == b""


async def test_a_client_that_sends_byte_by_byte_is_closed_too(short_timeouts: Proxy) -> None:
    async def send_bytewise(client: ClientConnection) -> None:
        for byte in b"CONNECT " + b"a" * 100_000:
            await client.send(bytes([byte]))
            await asyncio.sleep(0.02)

    async with configured_time():
        client = await short_timeouts.open()
        dribbling = asyncio.ensure_future(send_bytewise(client))
        assert await client.read_to_eof() == b""
    dribbling.cancel()
    await asyncio.gather(dribbling, return_exceptions=True)


async def test_half_a_client_hello_in_the_tunnel_is_closed(short_timeouts: Proxy, target: FakeTarget) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="h")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    hello = outgoing.read()
    async with configured_time():
        client, answer = await short_timeouts.connect(f"127.0.0.1:{target.port}", f"{KEY}:{short_timeouts.token(KEY)}")
        assert answer.status == 200
        await client.send(hello[: len(hello) // 2])
        assert await client.read_to_eof() == b""
    assert target.connections == []


@pytest.mark.parametrize("inside", [b"", b"GET /api HTTP/1.1\r\nHo"], ids=["nothing", "half a request"])
async def test_a_tunnel_without_a_whole_request_is_closed(
    short_timeouts: Proxy, target: FakeTarget, inside: bytes
) -> None:
    async with configured_time():
        client = await short_timeouts.tunnel_to(target)
        await client.send(inside)
        assert await client.read_to_eof() == b""
    assert target.connections == []


async def test_a_tunnel_that_is_idle_after_a_request_stays_open(short_timeouts: Proxy, target: FakeTarget) -> None:
    client = await short_timeouts.tunnel_to(target)
    await client.send(get(target.port))
    assert (await client.read_response()).status == 200
    late = await short_timeouts.open()
    await late.read_to_eof()
    await client.send(get(target.port))
    assert (await client.read_response()).status == 200


async def open_silent_tunnel(proxy: Proxy, port: int, ca: KeyPair) -> ClientConnection:
    """Open a tunnel to a target at `port` and send nothing."""
    write(
        proxy.folder,
        connector("silent", f"https://127.0.0.1:{port}", secret="s2"),
        secret("s2", ca=ca.pem),
        file="s.yaml",
    )
    await until(lambda: proxy.context.store.object_counts["Connector"] == 2)
    return await proxy.tunnel(f"127.0.0.1:{port}", f"{SILENT}:{proxy.token(SILENT)}")


async def test_a_target_that_drops_syns_gives_504(short_timeouts: Proxy, full_port: int, target_ca: KeyPair) -> None:
    client = await open_silent_tunnel(short_timeouts, full_port, target_ca)
    async with configured_time():
        await client.send(get(full_port))
        answer = await client.read_response()
    assert answer.status == 504
    assert f"did not answer within {CONFIGURED} s" in answer.json()["message"]


async def test_a_target_that_accepts_and_is_silent_gives_504_and_is_closed(
    short_timeouts: Proxy, mute: socket.socket, target_ca: KeyPair
) -> None:
    port = mute.getsockname()[1]
    client = await open_silent_tunnel(short_timeouts, port, target_ca)
    async with configured_time():
        await client.send(get(port))
        answer = await client.read_response()
        await closed_by_the_proxy(await accepted(mute))
    assert answer.status == 504


SILENT_NAMES = 100
"""Number of names, more than the threads of any pool."""
ROUNDS = 5


async def test_names_with_silent_servers_do_not_delay_other_connectors(
    folder: Path, confdir: Path, target_ca: KeyPair
) -> None:
    names = [f"silent-{number}" for number in range(SILENT_NAMES)]
    # Without a TTL no answer is cached, so each round has the same lookups.
    server = NameServer({"good.example": ["127.0.0.1"]}, ttl=0)
    connector_object = FakeTarget(make_leaf(target_ca, ["good.example"]))
    async with server, connector_object, running_proxy(folder, confdir) as proxy:
        connections = proxy.master.addons.get("connections")
        parts = connections.parts()
        resolver = Resolver(servers=[server.address])
        connections.set_parts(replace(parts, context=replace(parts.context, resolver=resolver)))
        good = connector("good", f"https://good.example:{connector_object.port}")
        silent = [connector(each, f"https://{each}.example.silent") for each in names]
        write(folder, *silent, good, secret(ca=target_ca.pem), file="names.yaml")
        await until(lambda: proxy.context.store.object_counts["Connector"] == SILENT_NAMES + 2)

        async def ask(name: str) -> Response:
            stream = await proxy.open()
            token = proxy.token(f"team-a/{name}")
            lines = [f"GET /connectors/team-a/{name}/api HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
            await stream.send("\r\n".join([*lines, "", ""]).encode())
            return await stream.read_response()

        # On a busy machine, the lookups may have ended when the other Connector is asked.
        good_status, answered, answers = 0, SILENT_NAMES, list[Response]()
        for _ in range(ROUNDS):
            server.queries.clear()
            waiting = [asyncio.ensure_future(ask(each)) for each in names]
            # No lookup waits for another one.
            await until(lambda: len({each for each in server.queries if each.endswith(".silent")}) == SILENT_NAMES)
            good_status = (await ask("good")).status
            answered = sum(each.done() for each in waiting)
            answers += await asyncio.gather(*waiting)
            if good_status == 200 and answered < SILENT_NAMES / 2:
                break
        resolver.close()
    assert good_status == 200
    assert answered < SILENT_NAMES / 2
    assert {each.status for each in answers} <= {502, 504}
    assert all("its name cannot be resolved" in each.json()["message"] for each in answers if each.status == 502)


async def test_a_target_may_take_as_long_as_it_likes_for_its_first_byte(
    short_timeouts: Proxy, target: FakeTarget
) -> None:
    go_on = asyncio.Event()

    async def slow(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await go_on.wait()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    target.handler = slow
    client = await short_timeouts.tunnel_to(target)
    await client.send(get(target.port))
    # Two consecutive clients are closed by the timeout, so the timeout has passed for the request, too.
    for _ in range(2):
        await (await short_timeouts.open()).read_to_eof()
    go_on.set()
    assert (await client.read_response()).body == b"late"


async def test_a_client_that_leaves_during_a_dial_ends_with_the_dial(
    short_timeouts: Proxy, mute: socket.socket, target_ca: KeyPair
) -> None:
    port = mute.getsockname()[1]
    client = await open_silent_tunnel(short_timeouts, port, target_ca)
    async with configured_time():
        before = asyncio.all_tasks()
        await client.send(get(port))
        connection = await accepted(mute)
        client.close()
        await closed_by_the_proxy(connection)
        await until(lambda: short_timeouts.connection_count == 0 and asyncio.all_tasks() <= before)


async def test_a_client_that_leaves_a_waiting_target_ends_both(short_timeouts: Proxy, target: FakeTarget) -> None:
    left = asyncio.Event()

    async def patient(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.read_some()
        left.set()

    target.handler = patient
    client = await short_timeouts.tunnel_to(target)
    await client.send(get(target.port))
    await until(lambda: bool(target.received))
    client.close()
    await asyncio.wait_for(left.wait(), 120)
