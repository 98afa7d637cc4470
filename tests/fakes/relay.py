"""TCP relay on loopback that can lose connections in the ways that networks do."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.fakes.waiting import stop_accepting

_CHUNK = 64 * 1024


class TcpRelay:
    """TCP relay, used as `async with TcpRelay("https://127.0.0.1:6443").serving() as relay: relay.url`."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._scheme = parts.scheme
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._is_flowing = asyncio.Event()
        self._is_flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._closed_writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.url = ""
        self.accept_count = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["TcpRelay"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"{self._scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self._is_closing = True
            await stop_accepting(server)
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            # Unsent data for a silent peer would keep them open past the end of this loop.
            for writer in self._closed_writers:
                writer.transport.abort()
            await asyncio.gather(*(writer.wait_closed() for writer in self._closed_writers), return_exceptions=True)
            # This includes connections that were accepted and have no task yet.
            await server.wait_closed()

    def drop(self) -> None:
        """Reset every connection (RST), as a load balancer does when it restarts."""
        for writer in tuple(self._writers):
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def freeze(self) -> None:
        """Stop passing data without FIN or RST. New connections are accepted and silent, too."""
        self._is_flowing.clear()

    def thaw(self) -> None:
        self._is_flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closing:
            writer.transport.abort()
            return
        self.accept_count += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._is_flowing.wait()
            target_reader, target_writer = await asyncio.open_connection(self._host, self._port)
            self._writers.add(target_writer)
            try:
                async with asyncio.TaskGroup() as pair:
                    pair.create_task(self._pass(reader, target_writer))
                    pair.create_task(self._pass(target_reader, writer))
            finally:
                self._writers.discard(target_writer)
                self._closed_writers.append(target_writer)
                target_writer.close()
        except* OSError:
            pass
        finally:
            self._writers.discard(writer)
            self._closed_writers.append(writer)
            writer.close()
            self._tasks.discard(task)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            await self._is_flowing.wait()
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
