"""Tracking of WebSocket frames by their lengths."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.http1 import websocket
from addons.http1.websocket import FrameTracker, render_going_away


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """Encode a frame (RFC 6455 section 5.2)."""
    mask_bit = 0x80 if mask else 0
    if len(payload) < 126:
        length = bytes((mask_bit | len(payload),))
    elif len(payload) < 1 << 16:
        length = bytes((mask_bit | 126,)) + len(payload).to_bytes(2)
    else:
        length = bytes((mask_bit | 127,)) + len(payload).to_bytes(8)
    return b"\x82" + length + mask + payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [b"", b"mask"])
def test_a_frame_ends_with_its_last_byte(size: int, mask: bytes) -> None:
    tracker, data = FrameTracker(skip=0), frame(bytes(size), mask)
    tracker.receive(data[:-1])
    assert not tracker.is_between_frames
    tracker.receive(data[-1:])
    assert tracker.is_between_frames


@given(
    st.lists(st.integers(0, 300), max_size=6).map(lambda sizes: [frame(b"x" * size) for size in sizes]),
    st.integers(0, 20),
    st.data(),
)
def test_any_split_gives_the_ends_of_all_frames(frames: list[bytes], skip: int, draw: st.DataObject) -> None:
    data = bytes(skip) + b"".join(frames)
    ends = {skip}
    for encoded in frames:
        ends.add(max(ends) + len(encoded))
    tracker, position = FrameTracker(skip=skip), 0
    while position < len(data):
        step = draw.draw(st.integers(1, len(data) - position))
        tracker.receive(data[position : position + step])
        position += step
        assert tracker.is_between_frames is (position in ends)


def test_no_frame_may_follow_before_the_skipped_bytes_have_passed() -> None:
    tracker = FrameTracker(skip=2)
    tracker.receive(b"a")
    assert not tracker.is_between_frames
    tracker.receive(b"b" + frame(b"c"))
    assert tracker.is_between_frames


def test_a_close_frame_has_status_going_away_and_a_reason() -> None:
    assert render_going_away("bye") == b"\x88\x05" + (1001).to_bytes(2) + b"bye"


@pytest.mark.parametrize(
    ("make", "code"), [(websocket.render_going_away, 1001), (websocket.render_policy_violation, 1008)]
)
@pytest.mark.parametrize("reason", ["", "the proxy ends", "x" * 500])
def test_the_reason_of_a_close_frame_is_truncated_to_fit(make: Callable[[str], bytes], code: int, reason: str) -> None:
    frame = make(reason)
    assert (frame[0], frame[1]) == (0x88, len(frame) - 2)
    assert int.from_bytes(frame[2:4]) == code
    assert frame[4:].decode() == reason[:123]
