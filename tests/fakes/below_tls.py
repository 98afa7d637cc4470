"""What a peer does to its TCP connection without the knowledge of its TLS session; there is no public way to it."""

import asyncio
import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BelowTls:
    """Of the connection of `writer`, whatever event loop it is of."""

    writer: asyncio.StreamWriter

    def write(self, data: bytes) -> None:
        """So little that the kernel takes it at once."""
        assert os.write(self._descriptor, data) == len(data)

    def write_eof(self) -> None:
        with socket.socket(fileno=os.dup(self._descriptor)) as duplicate:
            duplicate.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close it; a session that is aborted says nothing either."""
        self.writer.transport.abort()

    @property
    def _descriptor(self) -> int:
        descriptor: int = self.writer.get_extra_info("socket").fileno()
        return descriptor
