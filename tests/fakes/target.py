"""TLS server that records every byte it receives and responds as a test says, also as no API server would."""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

from lab.certificates import KeyPair
from tests.fakes.waiting import close_server, stop_accepting

Handler = Callable[["TargetConnection"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class TargetConnection:
    """One connection to the target. `received` contains all data from the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)

    async def read_head(self) -> bytes:
        """Read the head of the next request."""
        data = await self.reader.readuntil(b"\r\n\r\n")
        self.received += data
        return data

    async def read_exactly(self, size: int) -> bytes:
        data = await self.reader.readexactly(size)
        self.received += data
        return data

    async def read_some(self) -> bytes:
        data = await self.reader.read(65536)
        self.received += data
        return data

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


async def respond_to_all(connection: TargetConnection) -> None:
    """Respond to every request without a body: status 200, body `ok`."""
    while True:
        await connection.read_head()
        await connection.send(OK)


class FakeTarget:
    """Server for `async with FakeTarget(certificate, handler) as target`. It listens on `target.port`."""

    def __init__(self, certificate: KeyPair | None, handler: Handler = respond_to_all) -> None:
        self.handler = handler
        self.connections: list[TargetConnection] = []
        self.port = 0
        self._context = _context(certificate) if certificate is not None else None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def received(self) -> bytes:
        """Data received on all connections."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    @property
    def open_count(self) -> int:
        """Number of connections whose handler runs. It may read what the peer has sent."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_accepting(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A TLS connection waits for close_notify of its peer, which may be gone. The event loop ends with this test.
        for connection in self.connections:
            connection.writer.transport.abort()
        await close_server(self._server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection = TargetConnection(reader, writer)
        self.connections.append(connection)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            await self.handler(connection)
        writer.close()


@functools.cache
def _context(certificate: KeyPair) -> ssl.SSLContext:
    """Return a TLS context. Creating one takes as long as the rest of a target."""
    return certificate.server_context()
