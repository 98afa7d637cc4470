"""Events of HTTP/1.1 messages (heads, body pieces, ends) and their rendering."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from connector_store.domain.base.headers import Header, Headers


class BodyEnd(Enum):
    """End of a body that has no length."""

    LAST_CHUNK = "chunked"
    CLOSE = "close"


BodyFraming = int | BodyEnd
"""Framing of a body. An int is its length in bytes."""


@dataclass(slots=True)
class RequestHead:
    """Request line and headers. `target` is unchanged, the protocol is HTTP/1.`minor_version`.

    Nothing changes a head. Heads are not frozen, because two are created for every request.
    """

    method: bytes
    target: bytes
    minor_version: int
    headers: Headers
    body: BodyFraming


@dataclass(slots=True)
class ResponseHead:
    """Status line and headers. After a status below 200 other than 101, another head follows."""

    status: int
    reason: bytes
    minor_version: int
    headers: Headers
    body: BodyFraming


class EndOfMessage(NamedTuple):
    """End of a complete message."""

    trailers: Headers = Headers()


class InvalidMessage(NamedTuple):
    """Message that parsers could interpret differently. `status` is the status of the refusal, if it is a request."""

    status: int
    reason: str


MessageEvent = RequestHead | ResponseHead | bytes | EndOfMessage | InvalidMessage
"""Event of a parser. A piece of a body is bytes."""


def render_head(start_line: bytes, headers: Iterable[Header]) -> bytes:
    """Render a head from its start line and headers."""
    lines = [start_line]
    lines.extend([b"%b: %b" % header for header in headers])
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def render_chunk(content: bytes) -> bytes:
    """Render one chunk. `content` must not be empty."""
    # bytes.__mod__ would copy the content more than once.
    return b"".join((b"%x\r\n" % len(content), content, b"\r\n"))


def render_last_chunk(trailers: Iterable[Header]) -> bytes:
    """Render the end of a chunked body."""
    return render_head(b"0", trailers)
