"""Connections to targets, and the hooks of mitmproxy's addons."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from mitmproxy.proxy.commands import StartHook
from mitmproxy.proxy.server_hooks import ServerConnectedHook, ServerConnectionHookData
from mitmproxy.test import taddons
from mitmproxy.test.tflow import tclient_conn

import addons.net.connect
from addons.net.connect import TargetServer, connect
from addons.net.hooks import run_hook
from addons.net.tcp import TcpConnection
from lab.ports import Port
from tests.fakes.waiting import until


class RecordingAddon:
    """Addon that records hooks. `veto` is its reason against a connection."""

    def __init__(self) -> None:
        self.veto: str | None = None
        self.hooks: list[str] = []
        self.may_continue = asyncio.Event()
        self.may_continue.set()
        self.may_connect = asyncio.Event()
        self.may_connect.set()

    async def server_connect(self, data: ServerConnectionHookData) -> None:
        self.hooks.append("connect")
        await self.may_connect.wait()
        data.server.error = self.veto

    async def server_connected(self, data: ServerConnectionHookData) -> None:
        self.hooks.append("connected")
        await self.may_continue.wait()

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        self.hooks.append(f"error: {data.server.error}")

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        self.hooks.append("disconnected")


@pytest.fixture
async def addon() -> AsyncIterator[RecordingAddon]:
    tcp = RecordingAddon()
    with taddons.context(tcp):
        yield tcp
        await asyncio.sleep(0)


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def test_hooks_run_when_a_connection_opens_and_when_it_is_lost(
    addon: RecordingAddon, listener: socket.socket
) -> None:
    with listener:
        server = TargetServer(address=listener.getsockname())
        tcp = await connect(server, tclient_conn())
        assert isinstance(tcp, TcpConnection)
        assert (server.peername, server.connected) == (listener.getsockname(), True)
        peer, _ = listener.accept()
        with peer:
            peer.send(b"before it is served")
            for _ in range(10):
                await asyncio.sleep(0)
            received = bytearray()
            tcp.on_data = received.extend
            assert not received
            tcp.start()
            await until(lambda: received == b"before it is served")
        tcp.clear_callbacks()
        tcp.abort()
        await until(lambda: addon.hooks == ["connect", "connected", "disconnected"])
        assert server.timestamp_end is not None


async def test_an_addon_can_veto_a_connection(addon: RecordingAddon, listener: socket.socket) -> None:
    addon.veto = "not this one"
    with listener:
        listener.setblocking(False)
        assert await connect(TargetServer(address=listener.getsockname()), tclient_conn()) == "not this one"
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert addon.hooks == ["connect", "error: not this one"]


async def test_a_refused_connection_is_reported_as_refused(addon: RecordingAddon) -> None:
    server = TargetServer(address=("127.0.0.1", Port().number))
    assert await connect(server, tclient_conn()) == "connection refused"
    assert addon.hooks == ["connect", "error: connection refused"]


async def test_an_unreachable_address_is_reported_with_the_reason(addon: RecordingAddon) -> None:
    tcp = await connect(TargetServer(address=("255.255.255.255", 6443)), tclient_conn())
    assert isinstance(tcp, str)
    assert tcp.startswith("cannot be reached: ")


async def test_a_connection_that_is_reset_at_once_is_an_error(
    addon: RecordingAddon, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TcpConnection, "is_connected", False)
    with listener:
        assert await connect(TargetServer(address=listener.getsockname()), tclient_conn()) == "connection reset"


async def test_a_cancelled_attempt_leaves_no_connection_open(addon: RecordingAddon, listener: socket.socket) -> None:
    addon.may_continue.clear()
    with listener:
        attempt = asyncio.ensure_future(connect(TargetServer(address=listener.getsockname()), tclient_conn()))
        await until(lambda: addon.hooks == ["connect", "connected"])
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await until(lambda: addon.hooks == ["connect", "connected", "disconnected"])
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(120)
            assert await asyncio.to_thread(accepted.recv, 1) == b""


async def test_an_attempt_that_is_cancelled_during_a_hook_is_reported_too(addon: RecordingAddon) -> None:
    addon.may_connect.clear()
    attempt = asyncio.ensure_future(connect(TargetServer(address=("127.0.0.1", 1)), tclient_conn()))
    await until(lambda: addon.hooks == ["connect"])
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await until(lambda: addon.hooks == ["connect", "error: given up"])


async def test_a_target_without_an_address_is_an_error(addon: RecordingAddon) -> None:
    with pytest.raises(ValueError, match="address"):
        await connect(TargetServer(address=None), tclient_conn())
    await until(lambda: addon.hooks == ["connect", "error: given up"])


async def test_an_unexpected_error_leaves_no_connection_open(
    addon: RecordingAddon, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_when_connected(hook: StartHook) -> None:
        await run_hook(hook)
        if isinstance(hook, ServerConnectedHook):
            raise LookupError

    monkeypatch.setattr(addons.net.connect, "run_hook", fail_when_connected)
    with listener:
        with pytest.raises(LookupError):
            await connect(TargetServer(address=listener.getsockname()), tclient_conn())
        await until(lambda: addon.hooks == ["connect", "connected", "disconnected"])
