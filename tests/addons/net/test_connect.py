"""A connection to a target, as mitmproxy's addons hear of it."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import taddons
from mitmproxy.test.tflow import tclient_conn

from addons.net.connect import TargetServer, connect
from addons.net.tcp import TcpConnection
from tests.fakes.waiting import until


class Told:
    """An addon; `veto` is what it has against a connection."""

    def __init__(self) -> None:
        self.veto: str | None = None
        self.hooks: list[str] = []
        self.patience = asyncio.Event()
        self.patience.set()
        self.asked = asyncio.Event()
        self.asked.set()

    async def server_connect(self, data: ServerConnectionHookData) -> None:
        self.hooks.append("connect")
        await self.asked.wait()
        data.server.error = self.veto

    async def server_connected(self, data: ServerConnectionHookData) -> None:
        self.hooks.append("connected")
        await self.patience.wait()

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        self.hooks.append(f"error: {data.server.error}")

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        self.hooks.append("disconnected")


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    found = Told()
    with taddons.context(found):
        yield found
        await asyncio.sleep(0)


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def test_an_open_one_is_told_and_its_end_whoever_has_it_then(told: Told, listener: socket.socket) -> None:
    with listener:
        server = TargetServer(address=listener.getsockname())
        found = await connect(server, tclient_conn())
        assert isinstance(found, TcpConnection)
        assert (server.peername, server.connected) == (listener.getsockname(), True)
        peer, _ = listener.accept()
        with peer:
            peer.send(b"before it is served")
            for _ in range(10):
                await asyncio.sleep(0)
            came = bytearray()
            found.on_data = came.extend
            assert not came
            found.start()
            await until(lambda: came == b"before it is served")
        found.clear_callbacks()
        found.abort()
        await until(lambda: told.hooks == ["connect", "connected", "disconnected"])
        assert server.timestamp_end is not None


async def test_an_addon_may_have_something_against_it(told: Told, listener: socket.socket) -> None:
    told.veto = "not this one"
    with listener:
        listener.setblocking(False)
        assert await connect(TargetServer(address=listener.getsockname()), tclient_conn()) == "not this one"
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert told.hooks == ["connect", "error: not this one"]


async def test_who_does_not_listen_is_named_as_such(told: Told, listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()
    assert await connect(TargetServer(address=address), tclient_conn()) == "connection refused"
    assert told.hooks == ["connect", "error: connection refused"]


async def test_an_address_that_cannot_be_reached_says_why(told: Told) -> None:
    found = await connect(TargetServer(address=("255.255.255.255", 6443)), tclient_conn())
    assert isinstance(found, str)
    assert found.startswith("cannot be reached: ")


async def test_one_that_was_reset_at_once_is_none(
    told: Told, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TcpConnection, "is_connected", False)
    with listener:
        assert await connect(TargetServer(address=listener.getsockname()), tclient_conn()) == "connection reset"


async def test_an_attempt_that_is_given_up_leaves_nothing_open(told: Told, listener: socket.socket) -> None:
    told.patience.clear()
    with listener:
        attempt = asyncio.ensure_future(connect(TargetServer(address=listener.getsockname()), tclient_conn()))
        await until(lambda: told.hooks == ["connect", "connected"])
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await until(lambda: told.hooks == ["connect", "connected", "disconnected"])
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(30)
            assert await asyncio.to_thread(accepted.recv, 1) == b""


async def test_an_attempt_that_is_given_up_while_an_addon_is_asked_is_told_too(told: Told) -> None:
    told.asked.clear()
    attempt = asyncio.ensure_future(connect(TargetServer(address=("127.0.0.1", 1)), tclient_conn()))
    await until(lambda: told.hooks == ["connect"])
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await until(lambda: told.hooks == ["connect", "error: given up"])


async def test_a_target_has_an_address(told: Told) -> None:
    with pytest.raises(ValueError, match="address"):
        await connect(TargetServer(address=None), tclient_conn())
