"""A connection as the kernel gives it: held, coupled, ended."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from addons.net.tcp import MAX_UNSENT, TcpConnection
from tests.fakes.waiting import until

PIECE = b"x" * 65536


class Side:
    """A wire, and the socket of its peer."""

    def __init__(self, wire: TcpConnection, peer: socket.socket) -> None:
        self.wire = wire
        self.peer = peer
        self.received = bytearray()
        self.ends: list[bool] = []
        """False: FIN; True: lost."""
        wire.on_data = self._take
        wire.on_eof = self.ends.append

    def _take(self, data: memoryview) -> None:
        self.received += data

    async def pass_on_to(self, other: "Side") -> None:
        self.wire.on_data = lambda data: other.wire.send(bytes(data))

    async def flood(self, maximum: int) -> int:
        """Send until nothing more is taken, or `maximum` bytes; returns how many were."""
        sent, loop = 0, asyncio.get_running_loop()
        with suppress(TimeoutError):
            while sent < maximum:
                await asyncio.wait_for(loop.sock_sendall(self.peer, PIECE), 0.5)
                sent += len(PIECE)
        return sent


async def wire_on(near: socket.socket, max_unsent: int = MAX_UNSENT) -> TcpConnection:
    """As from a listener or a dial, not yet started."""
    near.setblocking(False)
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: TcpConnection(max_unsent=max_unsent), sock=near)
    wire.transport.pause_reading()
    return wire


@asynccontextmanager
async def side(*, started: bool = True, max_unsent: int = MAX_UNSENT) -> AsyncIterator[Side]:
    near, peer = socket.socketpair()
    with peer:
        peer.setblocking(False)
        found = Side(await wire_on(near, max_unsent), peer)
        if started:
            found.wire.start()
        try:
            yield found
        finally:
            found.wire.abort()


async def test_nothing_is_given_before_it_is_started_and_what_was_read_before_comes_first() -> None:
    async with side(started=False) as found:
        # As a loop does that reads a connection whatever it was told when that was made.
        found.wire.get_buffer(-1)[:6] = b"early "
        found.wire.buffer_updated(6)
        found.peer.send(b"late")
        for _ in range(10):
            await asyncio.sleep(0)
        assert found.received == b""
        found.wire.start()
        found.wire.start()
        await until(lambda: found.received == b"early late")


async def test_whoever_waits_for_it_may_start_it_at_once() -> None:
    near, peer = socket.socketpair()
    near.setblocking(False)
    received = bytearray()

    def made(wire: TcpConnection) -> None:
        wire.on_data = received.extend
        wire.start()

    with peer:
        peer.send(b"first")
        _, wire = await asyncio.get_running_loop().create_connection(lambda: TcpConnection(made), sock=near)
        await until(lambda: received == b"first")
        wire.abort()


async def test_who_cannot_take_it_has_no_connection(caplog: pytest.LogCaptureFixture) -> None:
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


async def test_a_held_wire_gives_nothing_until_it_is_released() -> None:
    async with side() as found:
        found.peer.send(b"a")
        await until(lambda: found.received == b"a")
        found.wire.pause_reading()
        found.peer.send(b"b")
        for _ in range(10):
            await asyncio.sleep(0)
        assert found.received == b"a"
        found.wire.resume_reading()
        await until(lambda: found.received == b"ab")


async def test_who_holds_while_he_gets_something_is_given_no_more() -> None:
    async with side() as found:

        def take(data: memoryview) -> None:
            found.received += data
            found.wire.pause_reading()

        found.wire.on_data = take
        found.peer.send(b"a")
        await until(lambda: found.received == b"a")
        found.peer.send(b"b")
        for _ in range(10):
            await asyncio.sleep(0)
        assert found.received == b"a"


async def test_who_is_coupled_and_released_while_it_gives_something_is_read_on() -> None:
    async with side() as found, side() as full, side() as other:
        full.wire.send(bytes(MAX_UNSENT // 2))
        await until(lambda: full.wire.unsent_bytes)

        def take(data: memoryview) -> None:
            found.received += data
            found.wire.pause_reading()
            found.wire.couple(full.wire)
            found.wire.couple(other.wire)
            found.wire.resume_reading()

        found.wire.on_data = take
        found.peer.send(b"a")
        await until(lambda: found.received == b"a")
        found.peer.send(b"b")
        await until(lambda: found.received == b"ab")


async def test_what_waits_or_has_ended_is_not_quiet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        near, _ = server.accept()
        wire = await wire_on(near)
        assert wire.is_quiet
        peer.send(b"unread")
        await until(lambda: not wire.is_quiet)
        assert not wire.is_peer_closed
        wire.abort()
        await until(lambda: wire.is_dead)
        assert not wire.is_quiet


async def test_where_there_is_no_socket_to_ask_nothing_is_quiet_and_nobody_gone() -> None:
    async with side() as found:
        found.wire._descriptor = -1
        assert (found.wire.is_quiet, found.wire.is_peer_closed) == (False, False)


async def test_whoever_has_it_is_told_once_it_is_lost() -> None:
    async with side() as found:
        lost: list[bool] = []
        found.wire.on_lost = lambda: lost.append(True)
        found.wire.clear_callbacks()
        found.wire.abort()
        await until(lambda: bool(lost))
        assert (found.ends, lost) == ([], [True])


async def test_a_side_is_not_read_while_the_other_has_no_room() -> None:
    async with side() as near, side() as far:
        near.wire.couple(far.wire)
        await near.pass_on_to(far)
        sent = await near.flood(64 << 20)
        assert sent < 64 << 20
        taken, loop = 0, asyncio.get_running_loop()
        while taken < sent:
            taken += len(await loop.sock_recv(far.peer, 1 << 20))


async def test_a_new_couple_is_not_kept_waiting_by_the_old_one() -> None:
    async with side() as near, side() as old, side() as new:
        near.wire.couple(old.wire)
        await near.pass_on_to(old)
        assert await near.flood(64 << 20) < 64 << 20
        near.wire.couple(new.wire)
        await near.pass_on_to(new)
        near.peer.send(b"last")
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(new.peer, 1 << 20)


async def test_the_end_of_one_side_lets_the_other_be_read() -> None:
    async with side() as near, side() as far:
        near.wire.couple(far.wire)
        await near.pass_on_to(far)
        await near.flood(64 << 20)
        far.peer.close()
        found = bytearray()
        near.wire.on_data = found.extend
        await until(lambda: bool(found))


async def test_the_end_is_told_and_the_other_direction_goes_on() -> None:
    async with side() as found:
        found.peer.shutdown(socket.SHUT_WR)
        await until(lambda: found.ends == [False])
        assert found.wire.is_peer_closed
        assert not found.wire.transport.is_closing()
        found.wire.send(b"answer")
        assert await asyncio.get_running_loop().sock_recv(found.peer, 10) == b"answer"


async def test_a_peer_that_had_closed_before_is_told_too() -> None:
    async with side(started=False) as found:
        found.wire.eof_received()
        assert found.ends == []
        found.wire.start()
        assert found.ends == [False]


async def test_a_broken_connection_is_told_and_takes_nothing_more() -> None:
    async with side() as found:
        found.wire.transport.abort()
        await until(lambda: found.ends == [True])
        found.wire.send(b"lost")
        assert not found.wire.send_eof()
        assert found.wire.is_dead


async def test_much_for_a_peer_that_is_gone_is_told_and_raises_nothing() -> None:
    async with side() as found:
        found.peer.close()
        found.wire.send(PIECE)
        await until(lambda: found.ends[-1:] == [True])
        assert found.wire.is_dead


async def test_what_the_kernel_does_not_take_of_a_view_is_kept_as_it_was() -> None:
    async with side() as found:
        buffer, sent, received = bytearray(100_000), b"", b""
        while not found.wire.unsent_bytes:
            buffer[:] = bytes((len(sent) // len(buffer),)) * len(buffer)
            found.wire.send(memoryview(buffer))
            sent += buffer
        buffer[:] = b"x" * len(buffer)
        while len(received) < len(sent):
            received += await asyncio.get_running_loop().sock_recv(found.peer, len(sent))
        assert received == sent


async def test_what_is_written_at_once_does_not_overtake_what_waits() -> None:
    async with side() as found:
        sent = 0
        while not found.wire.unsent_bytes:
            found.wire.send(PIECE)
            sent += len(PIECE)
        received = found.peer.recv(sent)
        last = b"y" * len(PIECE)
        found.wire.send(last)
        while len(received) < sent + len(last):
            received += await asyncio.get_running_loop().sock_recv(found.peer, sent)
        assert received == b"x" * sent + last


async def test_nobody_hears_of_what_comes_behind_the_end() -> None:
    async with side() as found:
        found.wire.close()
        found.peer.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert found.ends == []


class Unfinished:
    """A transport whose peer has reset the connection, which nobody has read yet."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write_eof(self) -> None:
        raise OSError


async def test_what_cannot_be_finished_says_so() -> None:
    async with side() as found:
        found.wire.transport = cast("asyncio.Transport", Unfinished(found.wire.transport))
        assert not found.wire.send_eof()
        await until(lambda: found.ends == [True])


async def test_after_the_end_nothing_more_is_sent() -> None:
    async with side() as found:
        assert found.wire.send_eof()
        found.wire.send(b"late")
        assert await asyncio.get_running_loop().sock_recv(found.peer, 10) == b""


async def test_who_is_full_when_coupled_keeps_the_new_opposite_waiting() -> None:
    async with side() as near, side() as old, side() as new:
        old.wire.couple(near.wire)
        await old.pass_on_to(near)
        assert await old.flood(64 << 20) < 64 << 20
        new.wire.couple(near.wire)
        await new.pass_on_to(near)
        assert await new.flood(64 << 20) < 64 << 20
        assert near.wire.unsent_bytes < 1 << 20


async def test_what_nobody_takes_ends_the_connection() -> None:
    async with side(max_unsent=1 << 20) as found:
        await until(lambda: found.wire.is_reading)
        while not found.wire.transport.is_closing():
            found.wire.send(PIECE)
        await until(lambda: found.ends == [True])


async def test_what_is_discarded_is_read_to_its_end() -> None:
    async with side() as found:
        found.wire.pause_reading()
        found.wire.discard()
        assert await found.flood(4 << 20) == 4 << 20
        found.peer.close()
        await until(lambda: bool(found.ends))
        assert found.received == b""


async def test_a_peer_that_has_gone_is_seen_behind_what_it_has_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        near, _ = server.accept()
        wire = await wire_on(near)
        wire.start()
        wire.pause_reading()
        assert not wire.is_peer_closed
        peer.send(b"unread")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: wire.is_peer_closed)
        wire.abort()


@pytest.mark.parametrize("unread", [b"", b"unread"], ids=["read to the end", "with unread bytes"])
async def test_a_reset_is_death_and_what_was_sent_before_is_not(unread: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        near, _ = server.accept()
        wire = await wire_on(near)
        assert not wire.is_dead
        peer.send(unread)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await until(lambda: wire.is_dead)
        assert (wire.is_peer_closed, wire.is_quiet) == (True, False)
        wire.abort()
