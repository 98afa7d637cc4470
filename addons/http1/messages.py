"""What HTTP/1.1 messages are made of: heads, pieces of bodies (bytes), ends; and their bytes on the wire."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from connector_store.domain.base.headers import Header, Headers


class BodyEnd(Enum):
    """Where a body without a length ends."""

    LAST_CHUNK = "chunked"
    CLOSE = "close"


BodyFraming = int | BodyEnd
"""A body's framing; an int is its length in bytes."""


class RequestHead(NamedTuple):
    """A request line and its fields; `target` is as it came, the protocol HTTP/1.`minor`.

    Messages are tuples, because some are made for every request.
    """

    method: bytes
    target: bytes
    minor_version: int
    headers: Headers
    body: BodyFraming


class ResponseHead(NamedTuple):
    """A status line and its fields. After a status below 200, other than 101, another head follows."""

    status: int
    reason: bytes
    minor_version: int
    headers: Headers
    body: BodyFraming


class EndOfMessage(NamedTuple):
    """The message is complete."""

    trailers: Headers = Headers()


class InvalidMessage(NamedTuple):
    """Not a message that everybody would read alike. `status` answers it where it is a request."""

    status: int
    reason: str


MessageEvent = RequestHead | ResponseHead | bytes | EndOfMessage | InvalidMessage


def render_head(start_line: bytes, headers: Iterable[Header]) -> bytes:
    """A start line and fields -> the bytes of a head."""
    lines = [start_line]
    lines.extend([b"%b: %b" % each for each in headers])
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def render_chunk(content: bytes) -> bytes:
    """One chunk; `content` is not empty."""
    # bytes.__mod__ would copy much more than once.
    return b"".join((b"%x\r\n" % len(content), content, b"\r\n"))


def render_last_chunk(trailers: Iterable[Header]) -> bytes:
    """The end of a chunked body."""
    return render_head(b"0", trailers)
