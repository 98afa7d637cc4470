"""A TCP relay on loopback that can lose connections in the ways that networks do."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_CHUNK = 64 * 1024


class Relay:
    """`async with Relay("https://127.0.0.1:6443").serving() as relay: relay.url`"""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._scheme = parts.scheme
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ended: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self.url = ""
        self.accepted = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Relay"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"{self._scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self._over = True
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            # What a silent peer never took would keep them open past this loop.
            for writer in self._ended:
                writer.transport.abort()
            await asyncio.gather(*(writer.wait_closed() for writer in self._ended), return_exceptions=True)
            # Those too that were accepted and not served yet.
            await server.wait_closed()

    def drop(self) -> None:
        """Reset every connection (RST), as a load balancer does that restarts."""
        for writer in tuple(self._writers):
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def freeze(self) -> None:
        """Pass nothing more and say nothing: no FIN, no RST. New connections are accepted and silent too."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over:
            writer.transport.abort()
            return
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            there, back = await asyncio.open_connection(self._host, self._port)
            self._writers.add(back)
            try:
                async with asyncio.TaskGroup() as pair:
                    pair.create_task(self._pass(reader, back))
                    pair.create_task(self._pass(there, writer))
            finally:
                self._writers.discard(back)
                self._ended.append(back)
                back.close()
        except* OSError:
            pass
        finally:
            self._writers.discard(writer)
            self._ended.append(writer)
            writer.close()
            self._tasks.discard(task)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
