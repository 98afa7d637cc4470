"""The chunked transfer coding without IO (RFC 9112 section 7.1).

>>> reader = ChunkedReader(max_trailers=65536)
>>> reader.receive(b"3;a=b\\r\\nabc\\r\\n0\\r\\nX: y\\r\\n\\r\\nrest")
b'abc'
>>> reader.done, reader.trailers, reader.rest
(True, ((b'X', b'y'),), b'rest')

Chunk extensions end here, and so do trailers that must not be any (RFC 9110 section 6.5.1). A chunk of a size nobody
could mean, a bare LF or a missing CRLF is an error: `ValueError`.
"""

import re
from collections.abc import Callable
from typing import Final

from connector_store.domain.headers import Fields

MAX_SIZE_LINE: Final = 1024
"""Bytes of a chunk's size with its extensions."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
FIELD_BLOCK: Final = re.compile(rb"(?:" + TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_FIELDS = re.compile(rb"(" + TOKEN + rb"):([^\r\n]*)\r\n")


def parse_fields(block: bytes) -> Fields:
    """Field lines up to and with the empty line -> names as they came, values without surrounding white space."""
    if FIELD_BLOCK.fullmatch(block) is None:
        raise ValueError("malformed header field")
    return Fields([(name, value.strip(b" \t")) for name, value in _FIELDS.findall(block)])


class ChunkedReader:
    """Reads one chunked body; what follows it is in `rest`."""

    def __init__(self, *, max_trailers: int) -> None:
        self.done = False
        self.trailers = Fields()
        self.rest = b""
        self._max_trailers = max_trailers
        self._left = 0
        self._step: Callable[[ChunkedReader, int, list[bytes]], int] = ChunkedReader._size
        self._buffer = bytearray()

    @property
    def between(self) -> bool:
        """True if nothing of the next chunk has come."""
        return self._step is ChunkedReader._size and not self._buffer

    def receive(self, data: bytes) -> bytes:
        """The content that `data` completes, all chunks of it joined."""
        if self._left > len(data):
            # The middle of a chunk: no copy.
            self._left -= len(data)
            return data
        self._buffer += data
        pieces: list[bytes] = []
        position = 0
        while not self.done:
            following = self._step(self, position, pieces)
            if following < 0:
                break
            position = following
        del self._buffer[:position]
        if self.done:
            self.rest = bytes(self._buffer)
            self._buffer.clear()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _size(self, start: int, pieces: list[bytes]) -> int:
        end = self._buffer.find(b"\n", start, start + MAX_SIZE_LINE)
        if end < 0:
            if len(self._buffer) - start >= MAX_SIZE_LINE:
                raise ValueError("chunk size line too long")
            return -1
        match = _SIZE.fullmatch(self._buffer, start, end + 1)
        if match is None:
            raise ValueError("malformed chunk size")
        self._left = int(match[1], 16)
        self._step = ChunkedReader._content if self._left else ChunkedReader._trailer
        return end + 1

    def _content(self, start: int, pieces: list[bytes]) -> int:
        piece = bytes(self._buffer[start : start + self._left])
        if not piece:
            return -1
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = ChunkedReader._content_end
        return start + len(piece)

    def _content_end(self, start: int, pieces: list[bytes]) -> int:
        end = self._buffer[start : start + 2]
        if not b"\r\n".startswith(end):
            raise ValueError("chunk longer than its size")
        if len(end) < 2:
            return -1
        self._step = ChunkedReader._size
        return start + 2

    def _trailer(self, start: int, pieces: list[bytes]) -> int:
        if self._buffer.startswith(b"\r\n", start):
            self.done = True
            return start + 2
        end = self._buffer.find(b"\r\n\r\n", start)
        following = end + 4 if end >= 0 else len(self._buffer)
        if following - start > self._max_trailers:
            raise ValueError("trailer section too large")
        if end < 0:
            return -1
        self.trailers = parse_fields(bytes(self._buffer[start:following])).as_trailers
        self.done = True
        return following
