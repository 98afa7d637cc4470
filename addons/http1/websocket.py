"""Tracking of WebSocket frames without I/O, and rendering of Close frames (RFC 6455).

>>> tracker = FrameTracker(skip=0)
>>> tracker.receive(b"\\x82\\x03ab")
>>> tracker.is_between_frames
False
>>> tracker.receive(b"c")
>>> tracker.is_between_frames
True
"""

from typing import Final

GOING_AWAY: Final = 1001
"""Status "an endpoint is going away, such as a server going down" (section 7.4.1). kubectl takes 1000 as success."""

POLICY_VIOLATION: Final = 1008
"""Status "a message that violates its policy" (section 7.4.1). No other code is more suitable."""

_MAX_REASON: Final = 123
"""Maximum bytes of a reason. A control frame has 125 bytes of payload (section 5.5), including the code."""
_MASKED: Final = 0x80
_EXTENDED: Final = {126: 2, 127: 8}
"""Bytes of the extended length, by the value of the length in the second header byte."""


class FrameTracker:
    """Tracker of the frames in one direction. It reads lengths only. `skip` is the number of bytes before frame 1."""

    def __init__(self, *, skip: int) -> None:
        self._remaining = skip
        self._header = b""

    @property
    def is_between_frames(self) -> bool:
        """True if the proxy may insert a control frame, which is allowed within a message (section 5.4)."""
        return not self._remaining and not self._header

    def receive(self, data: bytes) -> None:
        """Track `data`, which was sent."""
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
    """Return the size of the frame at `start` with its header, 0 if the header is incomplete (section 5.2)."""
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
    """Render the Close frame of a server that shuts down. kubectl shows `reason`."""
    return _render_close(GOING_AWAY, reason)


def render_policy_violation(reason: str) -> bytes:
    """Render the Close frame for a client that is no longer allowed to continue."""
    return _render_close(POLICY_VIOLATION, reason)


def _render_close(code: int, reason: str) -> bytes:
    payload = code.to_bytes(2) + reason.encode("ascii", "replace")[:_MAX_REASON]
    return bytes((0x88, len(payload))) + payload
