"""Names of asyncio that have no promise of stability. No other file uses such names."""

import asyncio.sslproto
from typing import Final

TLS_BUFFER_SIZE: Final = 64 * 1024
"""Size of the buffer of a TLS connection, in bytes. asyncio's is 256 kB, which is 3 MB for a program's idle watches."""


def reduce_tls_buffers() -> None:
    """Make the buffers of this process's TLS connections smaller. asyncio keeps one for each open connection."""
    asyncio.sslproto.SSLProtocol.max_size = TLS_BUFFER_SIZE
