"""Where the frames of a WebSocket end, without IO, and the frame that takes leave of its peer (RFC 6455).

>>> frames = FrameEnds(skip=0)
>>> frames.receive(b"\\x82\\x03ab")
>>> frames.between
False
>>> frames.receive(b"c")
>>> frames.between
True
"""

from typing import Final

GOING_AWAY: Final = 1001
"""Section 7.4.1: "an endpoint is going away, such as a server going down". To kubectl 1000 would mean success."""

POLICY_VIOLATION: Final = 1008
"""The same section: "a message that violates its policy", for want of a more suitable code."""

_MAX_REASON: Final = 123
"""Bytes: section 5.5 gives a control frame 125, the code among them."""
_MASKED: Final = 0x80
_EXTENDED: Final = {126: 2, 127: 8}
"""Bytes of the length where it does not fit into the second byte of the header."""


class FrameTracker:
    """Follows one direction, and reads nothing but lengths. `skip` is the number of bytes before the first frame."""

    def __init__(self, *, skip: int) -> None:
        self._remaining = skip
        self._header = b""

    @property
    def is_between_frames(self) -> bool:
        """True if a frame of somebody else may follow; also within a message (section 5.4)."""
        return not self._remaining and not self._header

    def receive(self, data: bytes) -> None:
        """These bytes have passed."""
        if self._remaining >= len(data):
            self._remaining -= len(data)
            return
        if self._header:
            data = self._header + data
            self._header = b""
        position, self._remaining = self._remaining, 0
        while position < len(data):
            frame_size = _frame_size(data, position)
            if not frame_size:
                self._header = data[position:]
                return
            position += frame_size
        self._remaining = position - len(data)


def _frame_size(data: bytes, start: int) -> int:
    """Bytes of the frame that begins at `start`, header and all; 0 if the header is not whole (section 5.2)."""
    if len(data) - start < 2:
        return 0
    length = data[start + 1] & ~_MASKED
    extended = _EXTENDED.get(length, 0)
    header_size = 2 + extended + (4 if data[start + 1] & _MASKED else 0)
    if len(data) - start < header_size:
        return 0
    if extended:
        length = int.from_bytes(data[start + 2 : start + 2 + extended])
    return header_size + length


def render_going_away(reason: str) -> bytes:
    """A server's Close frame when the server ends; kubectl shows `reason`."""
    return _render_close(GOING_AWAY, reason)


def render_policy_violation(reason: str) -> bytes:
    """A server's Close frame when its client may not go on."""
    return _render_close(POLICY_VIOLATION, reason)


def _render_close(code: int, reason: str) -> bytes:
    payload = code.to_bytes(2) + reason.encode("ascii", "replace")[:_MAX_REASON]
    return bytes((0x88, len(payload))) + payload
