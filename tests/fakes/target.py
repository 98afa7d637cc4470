"""A TLS server that keeps every byte it is sent, and answers as a test says: for what an API server would never do."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from lab.certificates import Issued
from tests.fakes.waiting import end

Handler = Callable[["Conversation"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Conversation:
    """One connection to the target; `received` is all that came."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)

    async def head(self) -> bytes:
        """The next request's head."""
        found = await self.reader.readuntil(b"\r\n\r\n")
        self.received += found
        return found

    async def exactly(self, size: int) -> bytes:
        found = await self.reader.readexactly(size)
        self.received += found
        return found

    async def some(self) -> bytes:
        found = await self.reader.read(65536)
        self.received += found
        return found

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


async def answer_all(conversation: Conversation) -> None:
    """200 with the body `ok` to every request without a body."""
    while True:
        await conversation.head()
        await conversation.say(OK)


class Target:
    """`async with Target(certificate, folder, handler) as target`: listens on `target.port`."""

    def __init__(self, certificate: Issued | None, folder: Path, handler: Handler = answer_all) -> None:
        self.handler = handler
        self.conversations: list[Conversation] = []
        self.port = 0
        self._context = _context(certificate, folder) if certificate is not None else None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def received(self) -> bytes:
        """All that was sent to it, on all connections."""
        return b"".join(bytes(each.received) for each in self.conversations)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A TLS connection takes leave of its peer, which may be gone; the next test's loop is not this one's.
        for conversation in self.conversations:
            conversation.writer.transport.abort()
        await end(self._server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        conversation = Conversation(reader, writer)
        self.conversations.append(conversation)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            await self.handler(conversation)
        writer.close()


_contexts: dict[Issued, ssl.SSLContext] = {}
"""To make one takes as long as all else of a target."""


def _context(certificate: Issued, folder: Path) -> ssl.SSLContext:
    if certificate not in _contexts:
        path = folder / "target.pem"
        path.write_bytes(certificate.combined_pem)
        context = _contexts[certificate] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
    return _contexts[certificate]
