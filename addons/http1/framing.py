"""Parser of HTTP/1.1 messages, without I/O (RFC 9112). It is strict in both directions.

>>> RequestReader(max_head=65536).receive(b"GET / HTTP/1.1\\r\\nA: b\\r\\n\\r\\n")
[RequestHead(method=b'GET', target=b'/', minor_version=1, headers=((b'A', b'b'),), body=0), EndOfMessage(trailers=())]

A message that two parsers could interpret differently is an `InvalidMessage`. The proxy renders every head and every
chunk from these events, so it never forwards such a message. Any split of the bytes gives the same events, apart from
the split of body pieces.
"""

import re
from typing import Final

from addons.http1.chunked import ChunkedReader
from addons.http1.messages import (
    BodyEnd,
    BodyFraming,
    EndOfMessage,
    InvalidMessage,
    MessageEvent,
    RequestHead,
    ResponseHead,
)
from connector_store.domain.base.headers import Headers

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEADER_BLOCK = re.compile(rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_MAX_LENGTH_DIGITS: Final = 18
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
# Some servers omit the space before an empty reason phrase (RFC 9112 section 4).
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEAD_END: Final = b"\r\n\r\n"
_END_OF_MESSAGE: Final = EndOfMessage()
_NO_HEADERS: Final = Headers()
MAX_CACHED_HEADERS: Final = 4096
"""Maximum bytes of a header block that a reader caches. Most requests on a connection have the same headers."""


def parse_headers(block: bytes) -> Headers:
    """Parse field lines, including the empty line. Names keep their case, values lose surrounding white space."""
    if _HEADER_BLOCK.fullmatch(block) is None:
        raise ValueError("malformed header field")
    # Names contain no colon, and values contain no line end.
    lines = block.split(b"\r\n")[:-2]
    return Headers([(name, value.strip(b" \t")) for line in lines for name, _, value in [line.partition(b":")]])


def parse_body_framing(headers: Headers) -> BodyFraming | InvalidMessage | None:
    """Return the framing of a body (RFC 9112 section 6.3), or None if no header frames one.

    Messages are not repaired, also where the RFC allows it.
    """
    codings = headers.values(b"transfer-encoding")
    lengths = headers.values(b"content-length")
    if codings:
        if lengths:
            return InvalidMessage(400, "both Transfer-Encoding and Content-Length")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            return InvalidMessage(400, "a transfer coding other than chunked")
        return BodyEnd.LAST_CHUNK
    if not lengths:
        return None
    if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > _MAX_LENGTH_DIGITS:
        return InvalidMessage(400, "malformed Content-Length")
    return int(lengths[0])


class _MessageReader:
    """Parser of consecutive messages. Bytes after `EndOfMessage` stay in `buffer` until `next_message` is called."""

    def __init__(self, *, max_head: int) -> None:
        self.buffer = bytearray()
        """Bytes of an incomplete head, or bytes after a complete message."""
        self.max_head = max_head
        """Maximum number of bytes of a head."""
        self._scan_position = 0
        self._framing: BodyFraming | None = None
        self._chunked: ChunkedReader | None = None
        self._is_complete = False
        self._is_invalid = False

    @property
    def is_between_chunks(self) -> bool:
        """True within a chunked body if no chunk is incomplete."""
        return self._chunked is not None and self._chunked.is_between_chunks

    def receive(self, data: bytes) -> list[MessageEvent]:
        """Parse `data` and return its events. After `InvalidMessage`, all data is ignored."""
        if self._is_invalid:
            return []
        messages: list[MessageEvent] = []
        while data:
            if self._is_complete:
                self.buffer += data
                break
            data = self._read_head(data, messages) if self._framing is None else self._read_body(data, messages)
        return messages

    def take_pending(self) -> bytes:
        """Remove and return the buffer. Its bytes belong to another protocol."""
        pending = bytes(self.buffer)
        self.buffer.clear()
        return pending

    def next_message(self) -> list[MessageEvent] | None:
        """Parse the bytes after a complete message. Return None if there are none."""
        self._is_complete = False
        self._framing = None
        self._scan_position = 0
        if not self.buffer:
            return None
        pending = bytes(self.buffer)
        self.buffer.clear()
        return self.receive(pending)

    def receive_eof(self) -> list[MessageEvent]:
        """Handle EOF. It ends a close-delimited body and makes any other incomplete message invalid."""
        if self._framing is BodyEnd.CLOSE and not self._is_complete:
            self._is_complete = True
            return [_END_OF_MESSAGE]
        if self._is_invalid or self._is_complete or (self._framing is None and not self.buffer):
            return []
        return [self._invalid(400, "cut off")]

    def _read_head(self, data: bytes, messages: list[MessageEvent]) -> bytes:
        source: bytes | bytearray = data
        if self.buffer:
            self.buffer += data
            source = self.buffer
        end = source.find(_HEAD_END, max(0, self._scan_position - 3))
        size = end + 4 if end >= 0 else len(source)
        if size > self.max_head:
            messages.append(self._invalid(431, f"header larger than {self.max_head} bytes"))
            return b""
        if end < 0:
            self._buffer_head(data, messages)
            return b""
        if self.buffer:
            data = bytes(self.buffer)
            self.buffer.clear()
            self._scan_position = 0
        remainder = data[size:]
        line, _, block = data[:size].partition(b"\r\n")
        try:
            message = self._parse_head(line, block)
        except ValueError as error:
            message = self._invalid(400, str(error))
        messages.append(message)
        if isinstance(message, InvalidMessage):
            return b""
        if isinstance(message, ResponseHead) and message.status < 200 and message.status != 101:
            # Another head follows.
            return remainder
        self._framing = message.body
        if self._framing == 0:
            self._is_complete = True
            messages.append(_END_OF_MESSAGE)
        elif self._framing is BodyEnd.LAST_CHUNK:
            self._chunked = ChunkedReader(max_trailers=self.max_head)
        return remainder

    def _buffer_head(self, data: bytes, messages: list[MessageEvent]) -> None:
        if not self.buffer:
            self.buffer += data
        if self._is_malformed():
            messages.append(self._invalid(400, "malformed head"))
            return
        self._scan_position = len(self.buffer)

    def _is_malformed(self) -> bool:
        """Return True if no further bytes can complete the head, so that it is refused before a timeout."""
        return (
            not 0x20 < self.buffer[0] < 0x7F
            or _BARE_LF.search(self.buffer, max(0, self._scan_position - 1)) is not None
        )

    def _parse_head(self, line: bytes, block: bytes) -> RequestHead | ResponseHead | InvalidMessage:
        """Parse a start line, and a block of field lines that includes the empty line."""
        raise NotImplementedError

    def _read_body(self, data: bytes, messages: list[MessageEvent]) -> bytes:
        if self._chunked is not None:
            return self._read_chunks(self._chunked, data, messages)
        if not isinstance(self._framing, int):
            messages.append(data)
            return b""
        remaining = self._framing - len(data)
        if remaining > 0:
            self._framing = remaining
            messages.append(data)
            return b""
        self._is_complete = True
        messages += (data[: self._framing] if remaining else data, _END_OF_MESSAGE)
        return data[self._framing :] if remaining else b""

    def _read_chunks(self, chunked: ChunkedReader, data: bytes, messages: list[MessageEvent]) -> bytes:
        try:
            content = chunked.receive(data)
            end = EndOfMessage(parse_headers(chunked.trailers).allowed_trailers) if chunked.is_complete else None
        except ValueError as error:
            messages.append(self._invalid(400, str(error)))
            return b""
        if content:
            messages.append(content)
        if end is None:
            return b""
        self._is_complete = True
        self._chunked = None
        messages.append(end)
        return chunked.trailing_data

    def _invalid(self, status: int, reason: str) -> InvalidMessage:
        self._is_invalid = True
        self.buffer.clear()
        return InvalidMessage(status, reason)


class RequestReader(_MessageReader):
    """Parser of requests from a client."""

    def __init__(self, *, max_head: int) -> None:
        super().__init__(max_head=max_head)
        self._cached_block = b""
        self._cached_headers = _NO_HEADERS
        self._cached_framing: BodyFraming | InvalidMessage | None = None

    def _parse_head(self, line: bytes, block: bytes) -> RequestHead | InvalidMessage:
        match = _REQUEST_LINE.fullmatch(line)
        if block == self._cached_block:
            headers, framing = self._cached_headers, self._cached_framing
        else:
            headers = parse_headers(block)
            framing = parse_body_framing(headers)
            if len(block) <= MAX_CACHED_HEADERS:
                self._cached_block, self._cached_headers, self._cached_framing = block, headers, framing
        if match is None:
            return self._invalid(400, "malformed request line")
        method, target, major, minor = match.groups()
        is_connect = method == b"CONNECT"
        # Python's http.client before 3.12 opens tunnels with HTTP/1.0.
        if major != b"1" or minor not in (b"0", b"1") or (minor == b"0" and not is_connect):
            return self._invalid(400, "only HTTP/1.1 is served")
        if isinstance(framing, InvalidMessage):
            return self._invalid(framing.status, framing.reason)
        if is_connect and framing:
            return self._invalid(400, "a CONNECT has no body")
        return RequestHead(method, target, int(minor), headers, framing or 0)


class ResponseReader(_MessageReader):
    """Parser of a target's response to a request with `method`."""

    def __init__(self, max_head: int, method: bytes) -> None:
        super().__init__(max_head=max_head)
        self._method = method

    def _parse_head(self, line: bytes, block: bytes) -> ResponseHead | InvalidMessage:
        match = _STATUS_LINE.fullmatch(line)
        headers = parse_headers(block)
        if match is None:
            return self._invalid(502, "malformed status line")
        minor, status, reason = int(match[1]), int(match[2]), match[3] or b""
        framing = parse_body_framing(headers)
        if isinstance(framing, InvalidMessage):
            return self._invalid(framing.status, framing.reason)
        if status < 200 or status == 204:
            # These have no Content-Length (RFC 9110 section 8.6). A client that uses one would wait for a body.
            headers = headers.without(b"content-length") if framing is not None else headers
            return ResponseHead(status, reason, minor, headers, BodyEnd.CLOSE if status == 101 else 0)
        if self._method == b"HEAD" or status == 304:
            return ResponseHead(status, reason, minor, headers, 0)
        if framing is BodyEnd.LAST_CHUNK and minor == 0:
            return self._invalid(502, "HTTP/1.0 with Transfer-Encoding")
        return ResponseHead(status, reason, minor, headers, BodyEnd.CLOSE if framing is None else framing)
