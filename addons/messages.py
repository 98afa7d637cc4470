"""What HTTP/1.1 messages are made of: heads, pieces of bodies (bytes), ends; and their bytes on the wire."""

from dataclasses import dataclass, field
from enum import Enum

from connector_store.domain.headers import Header


class Until(Enum):
    """Where a body without a length ends."""

    LAST_CHUNK = "chunked"
    CLOSE = "close"


Body = int | Until
"""A body's framing; an int is its length in bytes."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request line and its fields; `target` is as it came, the protocol HTTP/1.`minor`."""

    method: bytes
    target: bytes
    minor: int
    headers: list[Header]
    body: Body


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A status line and its fields. After a status below 200, other than 101, another head follows."""

    status: int
    reason: bytes
    minor: int
    headers: list[Header]
    body: Body


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete."""

    trailers: list[Header] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Invalid:
    """Not a message that everybody would read alike. `status` answers it where it is a request."""

    status: int
    reason: str


Event = RequestHead | ResponseHead | bytes | End | Invalid


def render_head(start: bytes, headers: list[Header]) -> bytes:
    """A start line and fields -> the bytes of a head."""
    lines = [start]
    lines.extend([name + b": " + value for name, value in headers])
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def render_chunk(content: bytes) -> bytes:
    """One chunk; `content` is not empty."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def render_last_chunk(trailers: list[Header]) -> bytes:
    """The end of a chunked body."""
    return render_head(b"0", trailers)
