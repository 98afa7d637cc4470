"""Target that sends any bytes, at any time, in any pieces, and consecutive callers that check their responses.

All bytes of the exchange N are marked `<N>`, so a test sees whose response they reached.
"""

import asyncio
import ssl
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Final, Self

from hypothesis import strategies as st

from lab.certificates import KeyPair
from tests.fakes.proxy import ClientConnection, Proxy
from tests.fakes.waiting import PATIENCE, until

KEY: Final = "team-a/k8s"
NUMBERS: Final = count(1)
"""Numbers of exchanges, unique in a process."""
BODY: Final = 40
"""Size of a request body in bytes. The second half is sent late."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: the caller's request and the target's behavior."""

    method: str
    tunnel: bool
    """The caller uses CONNECT, else direct access."""
    twice: bool
    """The caller sends a second request on its connection before it closes."""
    answer: str
    early: bool
    """The target responds after the head, before the rest of the body arrives."""
    extra: str
    """What the target does in addition to the response."""
    when: str
    """`with` the response, once the caller `has` it, or when the caller has `left`."""
    cuts: tuple[int, ...]
    """Sizes of the first pieces in which TLS bytes are sent. The rest is one piece."""


WHOLE: Final = ("length", "chunks", "empty chunks", "interim")
ENDING: Final = ("until close", "says close", "too short", "half a head", "none")
"""Responses after which the target closes the connection."""
SILENT: Final = ("silence", "half a head and silence", "no head and silence")
ANSWERS: Final = (
    *WHOLE, *ENDING, *SILENT, "no content", "not modified", "old", "too long", "bad chunk", "no head", "refused",
)  # fmt: skip
MORE: Final = ("nothing", "answer", "answer in two", "byte", "half a record", "no TLS", "goodbye", "fin", "reset")

turns = st.builds(
    Turn,
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    tunnel=st.booleans(),
    twice=st.booleans(),
    answer=st.one_of(st.sampled_from(WHOLE), st.sampled_from(ANSWERS)),
    early=st.booleans(),
    extra=st.one_of(st.just("nothing"), st.sampled_from(MORE)),
    when=st.sampled_from(["with", "has", "left"]),
    cuts=st.lists(st.integers(1, 60), max_size=4).map(tuple),
)


def answer(kind: str, number: int) -> tuple[bytes, bytes]:
    """Return the head and the body of a response, both marked."""
    mark = b"<%d>" % number
    head = b"HTTP/1.1 200 OK\r\nX-Of: %b\r\n" % mark
    body = mark * 10
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    return {
        "length": (head + length, body),
        "chunks": (head + chunked, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
        "empty chunks": (head + chunked, b"0\r\nX-Trailer: %b\r\n\r\n" % mark),
        "interim": (b"HTTP/1.1 103 Early Hints\r\nX-Of: %b\r\n\r\n" % mark + head + length, body),
        "no content": (b"HTTP/1.1 204 No Content\r\nX-Of: %b\r\nContent-Length: 7\r\n\r\n" % mark, b""),
        "not modified": (b"HTTP/1.1 304 Not Modified\r\nX-Of: %b\r\nContent-Length: 7\r\n\r\n" % mark, b""),
        "until close": (head + b"\r\n", body),
        "says close": (head + b"Connection: close\r\n" + length, body),
        "old": (head.replace(b"1.1", b"1.0") + length, body),
        "too short": (head + length, body[:-1]),
        "too long": (head + length, body + mark),
        "bad chunk": (head + chunked, b"-1\r\n" + body),
        "no head": (body + b"\r\n\r\n", b""),
        "no head and silence": (body, b""),
        "half a head": (head, b""),
        "half a head and silence": (head, b""),
        "none": (b"", b""),
        "silence": (b"", b""),
        "refused": (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", b""),
    }[kind]


class Connection:
    """Connection on the target's side, with TLS over memory buffers."""

    def __init__(self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    async def do_handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(self._out.read())
                await self._more()
            else:
                self.writer.write(self._out.read())
                return

    async def read_some(self) -> bytes:
        """Return plain text, or b"" at EOF."""
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                await self._more()

    def encrypt(self, data: bytes) -> bytes:
        """Return the TLS records of `data`."""
        if data:
            self._tls.write(data)
        return self._out.read()

    def close_notify(self) -> bytes:
        """Return the close_notify record."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._out.read()

    async def _more(self) -> None:
        data = await self.reader.read(65536)
        if not data:
            raise EOFError
        self._in.write(data)


class HostileTarget:
    """Target that behaves as described by the turn whose number is in the request path."""

    def __init__(self, certificate: KeyPair) -> None:
        self._context = certificate.server_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self.turns: dict[int, Turn] = {}
        self.request_counts: Counter[int] = Counter()
        """Number of requests by turn number."""
        self.events: defaultdict[int, set[str]] = defaultdict(set)
        """Events of an exchange: the caller `has` the response or has `left`, the target is `done`."""
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def has_responded(self, number: int) -> bool:
        """Return True if the target has sent all bytes that go with the response, or got no request."""
        return bool(self.events[number]) or not self.request_counts[number]

    async def wait_until_acted(self, number: int) -> None:
        """Wait until the target has done everything it does before the caller closes, or got no request."""
        await until(lambda: self.events[number] & {"acted", "done"} or not self.request_counts[number])

    async def wait_until_done(self, number: int) -> None:
        """Wait until the target has done everything it does in an exchange, or got no request."""
        await until(lambda: "done" in self.events[number] or not self.request_counts[number])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection = Connection(self._context, reader, writer)
        try:
            with suppress(OSError, EOFError):
                await connection.do_handshake()
                while await self._exchange(connection):
                    pass
        finally:
            writer.transport.abort()

    async def _exchange(self, connection: Connection) -> bool:
        """Serve one exchange. Return False if the connection must be closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = await connection.read_some()
            if not piece:
                return False
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        number = int(head.split(b" ")[1].rpartition(b"/")[2])
        turn = self.turns[number]
        self.request_counts[number] += 1
        try:
            while b"Content-Length" in head and not turn.early and len(body) < BODY:
                piece = await connection.read_some()
                if not piece:
                    return False
                body += piece
            return await self._act(connection, turn, number)
        finally:
            self.events[number].add("done")

    async def _act(self, connection: Connection, turn: Turn, number: int) -> bool:
        start, body = answer(turn.answer, number)
        bare = turn.method == "HEAD" and turn.answer in WHOLE
        data = connection.encrypt(start if bare else start + body)
        if turn.when == "with":
            data += self._beyond(connection, turn.extra, number)
        for cut in turn.cuts:
            connection.writer.write(data[:cut])
            data = data[cut:]
            await asyncio.sleep(0)
        connection.writer.write(data)
        self.events[number].add("said")
        if turn.answer in SILENT:
            while await connection.read_some():
                pass
            return False
        if turn.answer in ENDING:
            connection.writer.write(connection.close_notify())
            return False
        if turn.when != "with":
            await until(lambda: turn.when in self.events[number])
            connection.writer.write(self._beyond(connection, turn.extra, number))
        self.events[number].add("acted")
        if turn.extra == "answer in two":
            await until(lambda: "left" in self.events[number])
            connection.writer.write(connection.encrypt(b"".join(answer("length", number))[30:]))
        elif turn.extra == "reset":
            connection.writer.transport.abort()
        elif turn.extra == "fin":
            connection.writer.write_eof()
        return turn.extra not in ("reset", "fin", "goodbye", "no TLS")

    def _beyond(self, connection: Connection, extra: str, number: int) -> bytes:
        if extra == "answer":
            return connection.encrypt(b"".join(answer("length", number)))
        if extra == "answer in two":
            return connection.encrypt(b"".join(answer("length", number))[:30])
        if extra == "byte":
            return connection.encrypt(b"H")
        if extra == "half a record":
            return connection.encrypt(b"".join(answer("length", number)))[:-20]
        if extra == "no TLS":
            return b"".join(answer("length", number))
        return connection.close_notify() if extra == "goodbye" else b""


async def play(proxy: Proxy, target: HostileTarget, plan: Sequence[Turn]) -> dict[int, bytes]:
    """Callers, one after the other; what each was sent, by the number of its exchange."""
    got: dict[int, bytes] = {}
    for turn in plan:
        got |= await _call(proxy, target, turn)
    return got


async def _call(proxy: Proxy, target: HostileTarget, turn: Turn) -> dict[int, bytes]:
    here = f"127.0.0.1:{target.port}"
    client = await proxy.tunnel(here, f"{KEY}:{proxy.token(KEY)}") if turn.tunnel else await proxy.open()
    got = {}
    for last in (False, True) if turn.twice else (True,):
        # The target does not read the second request while it waits for the caller to leave.
        now = turn if last or turn.when != "left" else replace(turn, when="has")
        number = next(NUMBERS)
        target.turns[number] = now
        got[number] = await _ask(proxy, target, client, now, number)
        # Two pieces of one word are not pulled apart by the next request; what comes after it cannot be told apart.
        await until(partial(target.has_responded, number))
        target.events[number].add("has")
        if now.answer in SILENT:
            break
        if now.when == "has":
            await target.wait_until_acted(number)
    client.close()
    await until(lambda: proxy.connection_count == 0)
    for number in got:
        target.events[number].add("left")
        await target.wait_until_done(number)
    return got


async def _ask(proxy: Proxy, target: HostileTarget, client: ClientConnection, turn: Turn, number: int) -> bytes:
    """Ask, and read until the answer is whole, the connection has ended, or the target is silent."""
    path = f"/{number}" if turn.tunnel else f"/connectors/{KEY}/{number}"
    lines = [f"{turn.method} {path} HTTP/1.1", f"Host: 127.0.0.1:{target.port}"]
    lines.append(f"Authorization: Bearer {proxy.token(KEY)}")
    body = b""
    if turn.method == "POST":
        lines.append(f"Content-Length: {BODY}")
        body = b"x" * BODY
    received = bytearray()
    with suppress(OSError):
        await client.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body[: BODY // 2])
        if not (turn.early and body and await _read(target, client, turn, number, received)):
            await client.send(body[BODY // 2 :])
            await _read(target, client, turn, number, received)
    return bytes(received)


async def _read(target: HostileTarget, client: ClientConnection, turn: Turn, number: int, received: bytearray) -> bool:
    """True where something of an answer has come, or nothing will."""
    if turn.answer in SILENT:
        # Nothing tells a client that an answer has no end; it may have one all the same, if it is the proxy's.
        reading = asyncio.ensure_future(client.reader.read(65536))
        await until(lambda: reading.done() or target.events[number])
        reading.cancel()
        with suppress(asyncio.CancelledError):
            received += await reading
        return True
    while not _whole(bytes(received), turn):
        piece = await asyncio.wait_for(client.reader.read(65536), PATIENCE)
        if not piece:
            return True
        received += piece
    return True


def _whole(received: bytes, turn: Turn) -> bool:
    head, data, body = received.partition(b"\r\n\r\n")
    if data and head.startswith(b"HTTP/1.1 103"):
        head, data, body = body.partition(b"\r\n\r\n")
    if not data:
        return False
    if turn.method == "HEAD" or head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
        return True
    if b"chunked" in head:
        return b"0\r\n" in body and body.endswith(b"\r\n\r\n")
    lengths = [int(each[15:]) for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:")]
    return bool(lengths) and len(body) >= lengths[0]
