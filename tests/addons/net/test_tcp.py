"""TCP connections: pausing, coupling, EOF and closing."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from addons.net.tcp import MAX_UNSENT, TcpConnection
from tests.fakes.waiting import until

PIECE = b"x" * 65536


class Side:
    """TCP connection and the socket of its peer."""

    def __init__(self, tcp: TcpConnection, peer: socket.socket) -> None:
        self.tcp = tcp
        self.peer = peer
        self.received = bytearray()
        self.eofs: list[bool] = []
        """Values that `on_eof` got: False for FIN, True for a lost connection."""
        tcp.on_data = self._on_data
        tcp.on_eof = self.eofs.append

    def _on_data(self, data: memoryview) -> None:
        self.received += data

    async def forward_to(self, other: "Side") -> None:
        self.tcp.on_data = lambda data: other.tcp.send(bytes(data))

    async def flood(self, maximum: int) -> int:
        """Send until the connection is not read and its buffers are full, or `maximum` bytes. Return the sent bytes."""
        sent = 0
        while sent < maximum:
            try:
                sent += self.peer.send(PIECE[: maximum - sent])
            except BlockingIOError:
                if not self.tcp.is_reading:
                    break
                await asyncio.sleep(0)
        return sent


async def open_connection(near: socket.socket, max_unsent: int = MAX_UNSENT) -> TcpConnection:
    """Open a connection as a listener or a dial does, without starting it."""
    near.setblocking(False)
    loop = asyncio.get_running_loop()
    _, tcp = await loop.create_connection(lambda: TcpConnection(max_unsent=max_unsent), sock=near)
    tcp.transport.pause_reading()
    return tcp


@asynccontextmanager
async def open_side(*, started: bool = True, max_unsent: int = MAX_UNSENT) -> AsyncIterator[Side]:
    near, peer = socket.socketpair()
    with peer:
        peer.setblocking(False)
        one = Side(await open_connection(near, max_unsent), peer)
        if started:
            one.tcp.start()
        try:
            yield one
        finally:
            one.tcp.abort()


async def test_no_data_is_delivered_before_start_and_early_data_comes_first() -> None:
    async with open_side(started=False) as one:
        # Some event loops read a connection that was paused in `connection_made`.
        one.tcp.get_buffer(-1)[:6] = b"early "
        one.tcp.buffer_updated(6)
        one.peer.send(b"late")
        for _ in range(10):
            await asyncio.sleep(0)
        assert one.received == b""
        one.tcp.start()
        one.tcp.start()
        await until(lambda: one.received == b"early late")


async def test_the_connected_callback_may_start_the_connection() -> None:
    near, peer = socket.socketpair()
    near.setblocking(False)
    received = bytearray()

    def start(tcp: TcpConnection) -> None:
        tcp.on_data = received.extend
        tcp.start()

    with peer:
        peer.send(b"first")
        _, tcp = await asyncio.get_running_loop().create_connection(lambda: TcpConnection(start), sock=near)
        await until(lambda: received == b"first")
        tcp.abort()


async def test_a_connected_callback_that_raises_aborts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: TcpConnection) -> None:
        raise RuntimeError("a secret")

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TcpConnection(fail), "127.0.0.1", 0)
    with socket.socket() as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, server.sockets[0].getsockname())
        assert await loop.sock_recv(peer, 1) == b""
    server.close()
    assert "connection refused: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_paused_connection_delivers_nothing_until_it_is_resumed() -> None:
    async with open_side() as one:
        one.peer.send(b"a")
        await until(lambda: one.received == b"a")
        one.tcp.pause_reading()
        one.peer.send(b"b")
        for _ in range(10):
            await asyncio.sleep(0)
        assert one.received == b"a"
        one.tcp.resume_reading()
        await until(lambda: one.received == b"ab")


async def test_pausing_during_a_delivery_stops_further_deliveries() -> None:
    async with open_side() as one:

        def on_data(data: memoryview) -> None:
            one.received += data
            one.tcp.pause_reading()

        one.tcp.on_data = on_data
        one.peer.send(b"a")
        await until(lambda: one.received == b"a")
        one.peer.send(b"b")
        for _ in range(10):
            await asyncio.sleep(0)
        assert one.received == b"a"


async def test_coupling_and_resuming_during_a_delivery_continues_reading() -> None:
    async with open_side() as one, open_side() as full, open_side() as other:
        full.tcp.send(bytes(MAX_UNSENT // 2))
        await until(lambda: full.tcp.unsent_bytes)

        def on_data(data: memoryview) -> None:
            one.received += data
            one.tcp.pause_reading()
            one.tcp.couple(full.tcp)
            one.tcp.couple(other.tcp)
            one.tcp.resume_reading()

        one.tcp.on_data = on_data
        one.peer.send(b"a")
        await until(lambda: one.received == b"a")
        one.peer.send(b"b")
        await until(lambda: one.received == b"ab")


async def test_a_connection_with_unread_input_or_eof_is_not_quiet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        near, _ = server.accept()
        tcp = await open_connection(near)
        assert tcp.is_quiet
        peer.send(b"unread")
        await until(lambda: not tcp.is_quiet)
        assert not tcp.is_peer_closed
        tcp.abort()
        await until(lambda: tcp.is_dead)
        assert not tcp.is_quiet


async def test_without_a_socket_a_connection_is_neither_quiet_nor_closed() -> None:
    async with open_side() as one:
        one.tcp._descriptor = -1
        assert (one.tcp.is_quiet, one.tcp.is_peer_closed) == (False, False)


async def test_the_lost_callback_is_called_when_the_connection_is_lost() -> None:
    async with open_side() as one:
        lost: list[bool] = []
        one.tcp.on_lost = lambda: lost.append(True)
        one.tcp.clear_callbacks()
        one.tcp.abort()
        await until(lambda: bool(lost))
        assert (one.eofs, lost) == ([], [True])


async def test_a_side_is_not_read_while_the_other_side_is_backlogged() -> None:
    async with open_side() as near, open_side() as far:
        near.tcp.couple(far.tcp)
        await near.forward_to(far)
        sent = await near.flood(64 << 20)
        assert sent < 64 << 20
        received_count, loop = 0, asyncio.get_running_loop()
        while received_count < sent:
            received_count += len(await loop.sock_recv(far.peer, 1 << 20))


async def test_a_new_coupling_is_not_blocked_by_the_old_one() -> None:
    async with open_side() as near, open_side() as old, open_side() as new:
        near.tcp.couple(old.tcp)
        await near.forward_to(old)
        assert await near.flood(64 << 20) < 64 << 20
        near.tcp.couple(new.tcp)
        await near.forward_to(new)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(near.peer, b"last")
        assert await loop.sock_recv(new.peer, 1 << 20)


async def test_the_loss_of_one_side_unblocks_the_other() -> None:
    async with open_side() as near, open_side() as far:
        near.tcp.couple(far.tcp)
        await near.forward_to(far)
        await near.flood(64 << 20)
        far.peer.close()
        one = bytearray()
        near.tcp.on_data = one.extend
        await until(lambda: bool(one))


async def test_an_eof_is_reported_and_the_other_direction_continues() -> None:
    async with open_side() as one:
        one.peer.shutdown(socket.SHUT_WR)
        await until(lambda: one.eofs == [False])
        assert one.tcp.is_peer_closed
        assert not one.tcp.transport.is_closing()
        one.tcp.send(b"answer")
        assert await asyncio.get_running_loop().sock_recv(one.peer, 10) == b"answer"


async def test_an_eof_before_start_is_reported_too() -> None:
    async with open_side(started=False) as one:
        one.tcp.eof_received()
        assert one.eofs == []
        one.tcp.start()
        assert one.eofs == [False]


async def test_a_lost_connection_is_reported_and_sends_nothing_more() -> None:
    async with open_side() as one:
        one.tcp.transport.abort()
        await until(lambda: one.eofs == [True])
        one.tcp.send(b"lost")
        assert not one.tcp.send_eof()
        assert one.tcp.is_dead


async def test_a_large_write_to_a_closed_peer_is_reported_and_does_not_raise() -> None:
    async with open_side() as one:
        one.peer.close()
        one.tcp.send(PIECE)
        await until(lambda: one.eofs[-1:] == [True])
        assert one.tcp.is_dead


async def test_the_unsent_part_of_a_view_is_copied() -> None:
    async with open_side() as one:
        buffer, sent, received = bytearray(100_000), b"", b""
        while not one.tcp.unsent_bytes:
            buffer[:] = bytes((len(sent) // len(buffer),)) * len(buffer)
            one.tcp.send(memoryview(buffer))
            sent += buffer
        buffer[:] = b"x" * len(buffer)
        while len(received) < len(sent):
            received += await asyncio.get_running_loop().sock_recv(one.peer, len(sent))
        assert received == sent


async def test_a_large_write_does_not_overtake_unsent_data() -> None:
    async with open_side() as one:
        sent = 0
        while not one.tcp.unsent_bytes:
            one.tcp.send(PIECE)
            sent += len(PIECE)
        received = one.peer.recv(sent)
        last = b"y" * len(PIECE)
        one.tcp.send(last)
        while len(received) < sent + len(last):
            received += await asyncio.get_running_loop().sock_recv(one.peer, sent)
        assert received == b"x" * sent + last


async def test_after_close_no_data_is_delivered() -> None:
    async with open_side() as one:
        one.tcp.close()
        one.peer.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert one.eofs == []


class Unfinished:
    """Transport whose peer has reset the connection, which the proxy has not read yet."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write_eof(self) -> None:
        raise OSError


async def test_send_eof_returns_false_on_a_reset_connection() -> None:
    async with open_side() as one:
        one.tcp.transport = cast("asyncio.Transport", Unfinished(one.tcp.transport))
        assert not one.tcp.send_eof()
        await until(lambda: one.eofs == [True])


async def test_after_eof_nothing_more_is_sent() -> None:
    async with open_side() as one:
        assert one.tcp.send_eof()
        one.tcp.send(b"late")
        assert await asyncio.get_running_loop().sock_recv(one.peer, 10) == b""


async def test_a_backlogged_side_blocks_its_new_opposite() -> None:
    async with open_side() as near, open_side() as old, open_side() as new:
        old.tcp.couple(near.tcp)
        await old.forward_to(near)
        assert await old.flood(64 << 20) < 64 << 20
        new.tcp.couple(near.tcp)
        await new.forward_to(near)
        assert await new.flood(64 << 20) < 64 << 20
        assert near.tcp.unsent_bytes < 1 << 20


async def test_too_much_unsent_data_aborts_the_connection() -> None:
    async with open_side(max_unsent=1 << 20) as one:
        await until(lambda: one.tcp.is_reading)
        while not one.tcp.transport.is_closing():
            one.tcp.send(PIECE)
        await until(lambda: one.eofs == [True])


async def test_discarded_input_is_read_to_eof() -> None:
    async with open_side() as one:
        one.tcp.pause_reading()
        one.tcp.discard()
        assert await one.flood(4 << 20) == 4 << 20
        one.peer.close()
        await until(lambda: bool(one.eofs))
        assert one.received == b""


async def test_an_eof_behind_unread_data_is_detected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        near, _ = server.accept()
        tcp = await open_connection(near)
        tcp.start()
        tcp.pause_reading()
        assert not tcp.is_peer_closed
        peer.send(b"unread")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: tcp.is_peer_closed)
        tcp.abort()


@pytest.mark.parametrize("unread", [b"", b"unread"], ids=["read to the end", "with unread bytes"])
async def test_a_reset_connection_is_dead_and_a_half_closed_one_is_not(unread: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        near, _ = server.accept()
        tcp = await open_connection(near)
        assert not tcp.is_dead
        peer.send(unread)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await until(lambda: tcp.is_dead)
        assert (tcp.is_peer_closed, tcp.is_quiet) == (True, False)
        tcp.abort()
