"""HTTP/1.1 messages without IO: bytes in; heads, body pieces and ends out. Strict in both directions (RFC 9112).

>>> RequestReader(max_head=65536).receive(b"GET /api HTTP/1.1\\r\\nHost: t\\r\\n\\r\\n")
[RequestHead(method=b'GET', target=b'/api', minor=1, headers=((b'Host', b't'),), body=0), End(trailers=())]

What two parsers could read in two ways is `Invalid`, and nothing of it is passed on: whoever relays writes every head
and every chunk anew from these events. Any split of the bytes gives the same events (adjacent body pieces joined).
"""

import re
from typing import Final

from addons.http1.chunked import ChunkedReader
from addons.http1.messages import Body, End, Event, Invalid, RequestHead, ResponseHead, Until
from connector_store.domain.base.headers import Headers

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD_BLOCK = re.compile(rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
# RFC 9112 section 4: some servers leave out the space before an empty reason phrase.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEAD_END: Final = b"\r\n\r\n"
_END: Final = End()
_NO_FIELDS: Final = Headers()
MAX_REMEMBERED: Final = 4096
"""Bytes of fields that a reader remembers: clients say the same of themselves with each request."""


def parse_fields(block: bytes) -> Headers:
    """Field lines up to and with the empty line -> names as they came, values without surrounding white space."""
    if _FIELD_BLOCK.fullmatch(block) is None:
        raise ValueError("malformed header field")
    # No name has a colon, and no value a line end.
    lines = [line.partition(b":") for line in block.split(b"\r\n")[:-2]]
    return Headers([(name, value.strip(b" \t")) for name, _, value in lines])


def body_of(headers: Headers) -> Body | Invalid | None:
    """RFC 9112 section 6.3, without any of its ways to repair a message; None where nothing frames a body."""
    codings = headers.values(b"transfer-encoding")
    lengths = headers.values(b"content-length")
    if codings:
        if lengths:
            return Invalid(400, "both Transfer-Encoding and Content-Length")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            return Invalid(400, "a transfer coding other than chunked")
        return Until.LAST_CHUNK
    if not lengths:
        return None
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
        return Invalid(400, "malformed Content-Length")
    return int(lengths[0])


class _Reader:
    """One message after the other; after its `End`, what follows is kept until `next_message`."""

    def __init__(self, *, max_head: int) -> None:
        self.kept = bytearray()
        """Of an incomplete head, or behind a complete message."""
        self.max_head = max_head
        """Bytes of a head."""
        self._scanned = 0
        self._body: Body | None = None
        self._chunked: ChunkedReader | None = None
        self._complete = False
        self._broken = False

    @property
    def between_chunks(self) -> bool:
        """True in a chunked body of which whole chunks have come."""
        return self._chunked is not None and self._chunked.between

    def receive(self, data: bytes) -> list[Event]:
        """The events that `data` completes. After `Invalid` nothing more is read."""
        if self._broken:
            return []
        events: list[Event] = []
        while data:
            if self._complete:
                self.kept += data
                break
            data = self._read_head(data, events) if self._body is None else self._read_body(data, events)
        return events

    def take_pending(self) -> bytes:
        """Take what is kept away from the reader: it belongs to another protocol."""
        taken = bytes(self.kept)
        self.kept.clear()
        return taken

    def next_message(self) -> list[Event] | None:
        """Go on with what came behind the message that is complete; None where nothing did."""
        self._complete = False
        self._body = None
        self._scanned = 0
        if not self.kept:
            return None
        waiting = bytes(self.kept)
        self.kept.clear()
        return self.receive(waiting)

    def receive_eof(self) -> list[Event]:
        """The peer will send nothing more: the end of a close-delimited body, or the middle of a message."""
        if self._body is Until.CLOSE and not self._complete:
            self._complete = True
            return [_END]
        if self._broken or self._complete or (self._body is None and not self.kept):
            return []
        return [self._invalid(400, "cut off")]

    def _read_head(self, data: bytes, events: list[Event]) -> bytes:
        source: bytes | bytearray = data
        if self.kept:
            self.kept += data
            source = self.kept
        end = source.find(_HEAD_END, max(0, self._scanned - 3))
        size = end + 4 if end >= 0 else len(source)
        if size > self.max_head:
            events.append(self._invalid(431, f"header larger than {self.max_head} bytes"))
            return b""
        if end < 0:
            self._keep_head(data, events)
            return b""
        head, rest = bytes(source[:size]), bytes(source[size:])
        if self.kept:
            self.kept.clear()
            self._scanned = 0
        line, _, block = head.partition(b"\r\n")
        try:
            parsed = self._parse(line, block)
        except ValueError as error:
            parsed = self._invalid(400, str(error))
        events.append(parsed)
        if isinstance(parsed, Invalid):
            return b""
        if isinstance(parsed, ResponseHead) and parsed.status < 200 and parsed.status != 101:
            # Another head follows.
            return rest
        self._body = parsed.body
        if self._body == 0:
            self._complete = True
            events.append(_END)
        elif self._body is Until.LAST_CHUNK:
            self._chunked = ChunkedReader(max_trailers=self.max_head)
        return rest

    def _keep_head(self, data: bytes, events: list[Event]) -> None:
        if not self.kept:
            self.kept += data
        if self._hopeless():
            events.append(self._invalid(400, "malformed head"))
            return
        self._scanned = len(self.kept)

    def _hopeless(self) -> bool:
        """No bytes that may follow could make this a head: say so now, and not when a timer ends."""
        return not 0x20 < self.kept[0] < 0x7F or _BARE_LF.search(self.kept, max(0, self._scanned - 1)) is not None

    def _parse(self, line: bytes, block: bytes) -> RequestHead | ResponseHead | Invalid:
        """A start line, and the lines of the fields up to and with the empty one."""
        raise NotImplementedError

    def _read_body(self, data: bytes, events: list[Event]) -> bytes:
        if self._chunked is not None:
            return self._read_chunks(self._chunked, data, events)
        if not isinstance(self._body, int):
            events.append(data)
            return b""
        left = self._body - len(data)
        if left > 0:
            self._body = left
            events.append(data)
            return b""
        self._complete = True
        events += (data[: self._body] if left else data, _END)
        return data[self._body :] if left else b""

    def _read_chunks(self, chunked: ChunkedReader, data: bytes, events: list[Event]) -> bytes:
        try:
            content = chunked.receive(data)
            end = End(parse_fields(chunked.trailers).allowed_trailers) if chunked.done else None
        except ValueError as error:
            events.append(self._invalid(400, str(error)))
            return b""
        if content:
            events.append(content)
        if end is None:
            return b""
        self._complete = True
        self._chunked = None
        events.append(end)
        return chunked.rest

    def _invalid(self, status: int, reason: str) -> Invalid:
        self._broken = True
        self.kept.clear()
        return Invalid(status, reason)


class RequestReader(_Reader):
    """What a client sends."""

    def __init__(self, *, max_head: int) -> None:
        super().__init__(max_head=max_head)
        self._last_block = b""
        self._last_fields = _NO_FIELDS
        self._last_body: Body | Invalid | None = None

    def _parse(self, line: bytes, block: bytes) -> RequestHead | Invalid:
        match = _REQUEST_LINE.fullmatch(line)
        if block == self._last_block:
            headers, body = self._last_fields, self._last_body
        else:
            headers = parse_fields(block)
            body = body_of(headers)
            if len(block) <= MAX_REMEMBERED:
                self._last_block, self._last_fields, self._last_body = block, headers, body
        if match is None:
            return self._invalid(400, "malformed request line")
        method, target, major, minor = match.groups()
        connect = method == b"CONNECT"
        # Python's http.client before 3.12 opens tunnels with HTTP/1.0.
        if major != b"1" or minor not in (b"0", b"1") or (minor == b"0" and not connect):
            return self._invalid(400, "only HTTP/1.1 is served")
        if isinstance(body, Invalid):
            return self._invalid(body.status, body.reason)
        if connect and body:
            return self._invalid(400, "a CONNECT has no body")
        return RequestHead(method, target, int(minor), headers, body or 0)


class ResponseReader(_Reader):
    """What a target answers to a request of `method`."""

    def __init__(self, *, max_head: int, method: bytes) -> None:
        super().__init__(max_head=max_head)
        self._method = method

    def _parse(self, line: bytes, block: bytes) -> ResponseHead | Invalid:
        match = _STATUS_LINE.fullmatch(line)
        headers = parse_fields(block)
        if match is None:
            return self._invalid(502, "malformed status line")
        minor, status, reason = int(match[1]), int(match[2]), match[3] or b""
        body = body_of(headers)
        if isinstance(body, Invalid):
            return self._invalid(body.status, body.reason)
        if status < 200 or status == 204:
            # RFC 9110 section 8.6: these have no length, and whoever believed one would wait for a body.
            headers = headers.without(b"content-length") if body is not None else headers
            return ResponseHead(status, reason, minor, headers, Until.CLOSE if status == 101 else 0)
        if self._method == b"HEAD" or status == 304:
            return ResponseHead(status, reason, minor, headers, 0)
        if body is Until.LAST_CHUNK and minor == 0:
            return self._invalid(502, "HTTP/1.0 with Transfer-Encoding")
        return ResponseHead(status, reason, minor, headers, Until.CLOSE if body is None else body)
