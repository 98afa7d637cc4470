"""Parser of the chunked transfer coding, without I/O (RFC 9112 section 7.1).

>>> reader = ChunkedReader(max_trailers=65536)
>>> reader.receive(b"3;a=b\\r\\nabc\\r\\n0\\r\\nX: y\\r\\n\\r\\nrest")
b'abc'
>>> reader.is_complete, reader.trailers, reader.trailing_data
(True, b'X: y\\r\\n\\r\\n', b'rest')

Chunk extensions are dropped. A malformed size, a bare LF or a missing CRLF raises ValueError.
"""

import re
from collections.abc import Callable
from typing import Final

MAX_SIZE_LINE: Final = 1024
"""Maximum number of bytes of a chunk size with its extensions."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")


class ChunkedReader:
    """Parser of one chunked body. `trailing_data` contains the bytes after it."""

    def __init__(self, *, max_trailers: int) -> None:
        self.is_complete = False
        self.trailers = b"\r\n"
        """Lines of the trailer section, including the empty line."""
        self.trailing_data = b""
        self._max_trailers = max_trailers
        self._remaining = 0
        self._read_next: Callable[[ChunkedReader, bytes, int, list[memoryview]], int] = ChunkedReader._read_size
        self._buffer = b""
        """Bytes of an incomplete line or trailer section."""

    @property
    def is_between_chunks(self) -> bool:
        """True if no byte of the next chunk has arrived."""
        return self._read_next is ChunkedReader._read_size and not self._buffer

    def receive(self, data: bytes) -> bytes:
        """Parse `data` and return the content of its chunks, joined."""
        if self._remaining > len(data):
            # Data within a chunk is returned without a copy.
            self._remaining -= len(data)
            return data
        data = self._buffer + data
        pieces: list[memoryview] = []
        position = 0
        while not self.is_complete:
            next_position = self._read_next(self, data, position, pieces)
            if next_position < 0:
                break
            position = next_position
        self._buffer = data[position:]
        if self.is_complete:
            self.trailing_data, self._buffer = self._buffer, b""
        return b"".join(pieces)

    def _read_size(self, data: bytes, start: int, pieces: list[memoryview]) -> int:
        end = data.find(b"\n", start, start + MAX_SIZE_LINE)
        if end < 0:
            if len(data) - start >= MAX_SIZE_LINE:
                raise ValueError("chunk size line too long")
            return -1
        match = _SIZE.fullmatch(data, start, end + 1)
        if match is None:
            raise ValueError("malformed chunk size")
        self._remaining = int(match[1], 16)
        self._read_next = ChunkedReader._read_content if self._remaining else ChunkedReader._read_trailers
        return end + 1

    def _read_content(self, data: bytes, start: int, pieces: list[memoryview]) -> int:
        piece = memoryview(data)[start : start + self._remaining]
        if not piece:
            return -1
        pieces.append(piece)
        self._remaining -= len(piece)
        if not self._remaining:
            self._read_next = ChunkedReader._read_content_end
        return start + len(piece)

    def _read_content_end(self, data: bytes, start: int, pieces: list[memoryview]) -> int:
        end = data[start : start + 2]
        if not b"\r\n".startswith(end):
            raise ValueError("chunk longer than its size")
        if len(end) < 2:
            return -1
        self._read_next = ChunkedReader._read_size
        return start + 2

    def _read_trailers(self, data: bytes, start: int, pieces: list[memoryview]) -> int:
        if data.startswith(b"\r\n", start):
            self.is_complete = True
            return start + 2
        end = data.find(b"\r\n\r\n", start)
        next_position = end + 4 if end >= 0 else len(data)
        if next_position - start > self._max_trailers:
            raise ValueError("trailer section too large")
        if end < 0:
            return -1
        self.trailers = data[start:next_position]
        self.is_complete = True
        return next_position
