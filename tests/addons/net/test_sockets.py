"""Sockets of a client connection: back-pressure, timers, closing."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.net import sockets
from addons.net.connect import TargetServer
from addons.net.sockets import MAX_CLOSED, TIMER_RESOLUTION, CloseTimeouts, Sockets
from addons.net.stage import TimerExpired, TimerKind
from addons.net.tcp import KEEPALIVE, TcpConnection, enable_keepalive
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.raw_tls import RawTls
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


async def test_both_sockets_use_tcp_keepalive(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel_to(target)
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.read_response()
    served = tuple(proxy.sockets._connections.values())
    assert len(served) == 2
    for _, each in served:
        sock = each.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert all(sock.getsockopt(socket.IPPROTO_TCP, option) in values for option, values in KEEPALIVE.items())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_vanished_peer_is_detected_within_66_seconds_after_at_least_five_probes() -> None:
    idle, between, lost = KEEPALIVE.values()
    assert (max(idle) + max(between) * max(lost), min(lost)) == (66, 5)


def test_the_probes_of_many_idle_connections_do_not_fire_together() -> None:
    seen = set()
    for _ in range(200):
        with socket.socket() as sock:
            enable_keepalive(sock.fileno())
            seen.add(tuple(sock.getsockopt(socket.IPPROTO_TCP, option) for option in KEEPALIVE))
    assert len(seen) > 10


@pytest.mark.parametrize("takes", [True, False], ids=["reads the refusal", "does not read the refusal"])
async def test_a_refused_client_that_does_not_close_is_closed(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    proxy.set_close_timeouts(CloseTimeouts(linger=0.05, poll=0.05))
    if not takes:
        monkeypatch.setattr(TcpConnection, "unsent_bytes", property(lambda _: 1))
    stream, answer = await proxy.connect(f"127.0.0.1:{target.port}", None)
    assert answer.status == 407
    await until(lambda: proxy.connection_count == 0)
    stream.close()


SIZE = 32_000_000


async def pour(conversation: TargetConnection) -> None:
    await conversation.read_head()
    await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // 64_000):
        await conversation.send(b"x" * 64_000)


async def test_a_slow_client_gets_every_byte_and_meanwhile_the_target_is_not_read(
    proxy: Proxy, target: FakeTarget
) -> None:
    target.handler = pour
    client = await proxy.tunnel_to(target)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's TLS transport has it
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await until(lambda: bool(target.received))
    wires = dict(proxy.sockets._connections)
    await until(lambda: proxy.connection_count == 0 or not all(each.is_reading for _, each in wires.values()))
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # ditto
    assert len((await client.read_response()).body) == SIZE
    client.close()


async def test_a_slow_target_gets_every_byte_and_meanwhile_the_client_is_not_read(
    proxy: Proxy, target: FakeTarget
) -> None:
    async def take(conversation: TargetConnection) -> None:
        await conversation.read_head()
        conversation.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's TLS transport has it
        await go_on.wait()
        conversation.writer.transport.resume_reading()  # type: ignore[attr-defined]  # ditto
        await conversation.read_exactly(SIZE)
        await conversation.send(OK)

    go_on = asyncio.Event()
    target.handler = take
    client = await proxy.tunnel_to(target)
    head = b"PUT /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n" % (target.port, SIZE)
    sending = asyncio.ensure_future(client.send(head + b"x" * SIZE))
    await until(lambda: bool(target.received))
    served = proxy.sockets
    await until(lambda: proxy.connection_count == 0 or not served._client_tcp.is_reading)
    go_on.set()
    assert (await client.read_response()).status == 200
    await sending
    client.close()


async def test_a_dial_that_is_reset_is_a_refusal_at_once(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TcpConnection, "is_connected", False)
    client = await proxy.tunnel_to(target)
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    answer = await client.read_response()
    assert answer.status == 502
    assert "connection reset" in answer.json()["message"]


@pytest.mark.parametrize("close", [True, False], ids=["a response with Connection: close", "a target that closes"])
async def test_a_client_is_not_closed_before_it_has_read_the_whole_response(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, close: bool
) -> None:
    async def handler(conversation: TargetConnection) -> None:
        await conversation.read_head()
        how = b"Connection: close\r\n" if close else b""
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nok" % how)

    unsent = [1]
    proxy.set_close_timeouts(CloseTimeouts(linger=0, flush=0, poll=0))
    monkeypatch.setattr(TcpConnection, "unsent_bytes", property(lambda _: unsent[0]))
    target.handler = handler
    stream, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    # Clients of libraries close by themselves once they have read EOF.
    client = RawTls(stream, "127.0.0.1")
    await client.handshake()
    served = proxy.sockets
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await until(lambda: served._is_closing)
    for _ in range(100):
        await asyncio.sleep(0)
    assert proxy.connection_count == 1
    unsent[0] = 0
    await until(lambda: proxy.connection_count == 0)
    stream.close()


@pytest.mark.usefixtures("gone_at_once")
async def test_close_all_closes_a_client_that_reads_nothing(proxy: Proxy, target: FakeTarget) -> None:
    proxy.set_close_timeouts(CloseTimeouts(flush=0.05))

    async def endless(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await conversation.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    target.handler = endless
    client = await proxy.tunnel_to(target)
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await client.reader.readexactly(10)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's TLS transport has it
    wire = proxy.sockets._client_tcp
    lost: list[bool] = []
    wire.on_lost = lambda: lost.append(True)
    await until(lambda: wire.unsent_bytes)
    (proxy.folder / "objects.yaml").unlink()
    await until(lambda: proxy.connection_count == 0 and lost)
    client.close()


async def test_a_closed_connection_leaves_nothing_to_the_garbage_collector(proxy: Proxy, target: FakeTarget) -> None:
    proxy.set_close_timeouts(CloseTimeouts(flush=0.05))
    gc.collect()
    gc.disable()
    try:
        client = await proxy.tunnel_to(target)
        await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        await client.read_response()
        served, stage, tls = (weakref.ref(each) for each in (proxy.sockets, proxy.stage, proxy.stage._client.tls))
        client.close()
        await until(lambda: served() is None and stage() is None and tls() is None)
    finally:
        gc.enable()


class EndlessDial:
    """Stands in for `connect`, and ends only if it is cancelled."""

    def __init__(self) -> None:
        self.started, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, *_: object) -> str:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return ""


@pytest.fixture
def endless_dial(monkeypatch: pytest.MonkeyPatch) -> EndlessDial:
    dial = EndlessDial()
    monkeypatch.setattr(sockets, "connect", dial)
    return dial


@pytest.mark.parametrize("cut", [False, True], ids=["closed by the client", "closed by the proxy"])
async def test_a_dial_ends_with_its_client(
    folder: Path, confdir: Path, target: FakeTarget, endless_dial: EndlessDial, cut: bool
) -> None:
    async with running_proxy(folder, confdir, connector_recheck="0.2") as proxy:
        client = await proxy.tunnel_to(target)
        await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        await until(endless_dial.started.is_set)
        if cut:
            proxy.stage.close("its Connector is gone")
        client.close()
        await until(endless_dial.ended.is_set)


async def test_an_error_during_a_dial_aborts_the_client_and_leaves_no_connection_open(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Sockets, "attach", fail)
    client = await proxy.tunnel_to(target)
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
    assert target.received == b""


class RecordingStage:
    """Stage that records expired timers and does nothing else."""

    def __init__(self) -> None:
        self.times: list[tuple[TimerKind, int]] = []

    def data_received(self, connection: Connection, data: memoryview) -> None: ...

    def eof_received(self, connection: Connection) -> None: ...

    def connection_lost(self) -> None: ...

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired):
            self.times.append((event.kind, event.timer_id))


@pytest.fixture
async def idle_client(proxy: Proxy) -> AsyncIterator[tuple[Sockets, RecordingStage]]:
    """Sockets of a client that sends nothing, without the timer of their gate."""
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await until(lambda: proxy.connection_count == 1)
    stage, client_sockets = RecordingStage(), proxy.sockets
    client_sockets.set_stage(stage)
    client_sockets.stop_timer()
    yield client_sockets, stage
    client_sockets.abort()
    writer.close()
    await until(lambda: proxy.connection_count == 0)


LONG = 3600.0


async def test_a_timer_expires_once_and_not_early(idle_client: tuple[Sockets, RecordingStage]) -> None:
    client_sockets, stage = idle_client
    loop = asyncio.get_running_loop()
    due = loop.time() + 0.02
    number = client_sockets.start_timer(0.02, TimerKind.TARGET)
    await until(lambda: stage.times)
    assert loop.time() >= due - TIMER_RESOLUTION
    assert stage.times == [(TimerKind.TARGET, number)]


async def test_a_new_timer_replaces_the_previous_one(idle_client: tuple[Sockets, RecordingStage]) -> None:
    client_sockets, stage = idle_client
    loop = asyncio.get_running_loop()
    client_sockets.start_timer(0.01, TimerKind.CLIENT)
    client_sockets.stop_timer()
    due = loop.time() + 0.05
    number = client_sockets.start_timer(0.05, TimerKind.TARGET)
    await until(lambda: stage.times)
    assert loop.time() >= due - TIMER_RESOLUTION
    assert stage.times == [(TimerKind.TARGET, number)]


async def test_a_shorter_timer_expires_on_time(
    idle_client: tuple[Sockets, RecordingStage],
) -> None:
    client_sockets, stage = idle_client
    client_sockets.start_timer(LONG, TimerKind.CLIENT)
    number = client_sockets.start_timer(0.01, TimerKind.TARGET)
    await until(lambda: stage.times)
    assert stage.times == [(TimerKind.TARGET, number)]


async def test_consecutive_timers_share_a_handle_that_is_cancelled_with_the_connection(
    idle_client: tuple[Sockets, RecordingStage],
) -> None:
    client_sockets, _ = idle_client
    client_sockets.start_timer(LONG, TimerKind.CLIENT)
    timer = client_sockets._timer_handle
    for _ in range(3):
        client_sockets.stop_timer()
        client_sockets.start_timer(LONG, TimerKind.CLIENT)
    assert client_sockets._timer_handle is timer
    client_sockets.abort()
    await until(lambda: timer is not None and timer.cancelled())


@pytest.mark.parametrize("unsent", [0, 1], ids=["without unsent bytes", "with unsent bytes"])
async def test_a_client_can_use_any_number_of_targets_one_after_the_other(
    idle_client: tuple[Sockets, RecordingStage], target: FakeTarget, monkeypatch: pytest.MonkeyPatch, unsent: int
) -> None:
    monkeypatch.setattr(TcpConnection, "unsent_bytes", property(lambda _: unsent))
    client_sockets, _ = idle_client
    outcomes: list[str] = []
    for number in range(1, 3 * MAX_CLOSED):
        server = TargetServer(address=("127.0.0.1", target.port))
        client_sockets.dial(server, outcomes.append)
        await until(lambda: len(outcomes) == number)  # noqa: B023 - it is waited for here
        client_sockets.close(server)
    connection_count = len(client_sockets._connections)
    assert (connection_count <= MAX_CLOSED + 1) is (not unsent)
    assert client_sockets.client.id in client_sockets._connections


async def test_a_dial_ends_with_its_client_even_if_the_stage_does_not_cancel_it(
    idle_client: tuple[Sockets, RecordingStage], endless_dial: EndlessDial
) -> None:
    client_sockets, _ = idle_client
    outcomes: list[str] = []
    client_sockets.dial(TargetServer(address=("127.0.0.1", 1)), outcomes.append)
    await until(endless_dial.started.is_set)
    client_sockets.abort()
    await until(endless_dial.ended.is_set)
    assert outcomes == []


async def test_a_task_that_fails_gives_the_stage_its_fallback_and_logs_no_secret(
    idle_client: tuple[Sockets, RecordingStage], caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> str:
        raise LookupError("about t-canary")

    client_sockets, _ = idle_client
    results: list[str] = []
    client_sockets.run_task("a lookup", fail(), "fallback", results.append)
    await until(lambda: results)
    assert results == ["fallback"]
    assert "a lookup failed: LookupError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_stage_that_raises_closes_its_client_and_logs_no_secret(
    idle_client: tuple[Sockets, RecordingStage],
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "t-canary"

    def fail(_: TimerExpired) -> None:
        raise LookupError(secret)

    client_sockets, stage = idle_client
    monkeypatch.setattr(stage, "handle_event", fail)
    client_sockets.deliver(TimerExpired(TimerKind.CLIENT, 1))
    await until(lambda: proxy.connection_count == 0)
    assert "LookupError in the data path" in caplog.text
    assert "canary" not in caplog.text


async def test_a_stage_that_fails_at_the_end_of_its_client_leaves_no_target_connected(
    idle_client: tuple[Sockets, RecordingStage], target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError

    client_sockets, stage = idle_client
    monkeypatch.setattr(stage, "connection_lost", fail)
    outcomes: list[str] = []
    server = TargetServer(address=("127.0.0.1", target.port))
    client_sockets.dial(server, outcomes.append)
    await until(lambda: outcomes)
    transport = client_sockets.tcp(server).transport
    client_sockets.close(client_sockets.client)
    await until(transport.is_closing)
    assert outcomes == [""]
