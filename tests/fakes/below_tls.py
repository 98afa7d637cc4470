"""Actions on a TCP connection that bypass its TLS session, for which asyncio has no public API."""

import asyncio
import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BelowTls:
    """TCP connection of `writer`, which may belong to any event loop."""

    writer: asyncio.StreamWriter

    def write(self, data: bytes) -> None:
        """Write `data`, which must fit into the send buffer of the kernel."""
        assert os.write(self._descriptor, data) == len(data)

    def write_eof(self) -> None:
        with socket.socket(fileno=os.dup(self._descriptor)) as duplicate:
            duplicate.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close the connection without close_notify."""
        self.writer.transport.abort()

    @property
    def _descriptor(self) -> int:
        descriptor: int = self.writer.get_extra_info("socket").fileno()
        return descriptor
