"""Frames of a WebSocket are followed by their lengths."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.http1 import websocket
from addons.http1.websocket import FrameTracker, render_going_away


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """RFC 6455 section 5.2."""
    marked = 0x80 if mask else 0
    if len(payload) < 126:
        length = bytes((marked | len(payload),))
    elif len(payload) < 1 << 16:
        length = bytes((marked | 126,)) + len(payload).to_bytes(2)
    else:
        length = bytes((marked | 127,)) + len(payload).to_bytes(8)
    return b"\x82" + length + mask + payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [b"", b"mask"])
def test_a_frame_ends_with_its_last_byte(size: int, mask: bytes) -> None:
    found, data = FrameTracker(skip=0), frame(bytes(size), mask)
    found.receive(data[:-1])
    assert not found.is_between_frames
    found.receive(data[-1:])
    assert found.is_between_frames


@given(
    st.lists(st.integers(0, 300), max_size=6).map(lambda sizes: [frame(b"x" * size) for size in sizes]),
    st.integers(0, 20),
    st.data(),
)
def test_for_every_split_it_knows_where_frames_end(frames: list[bytes], skip: int, draw: st.DataObject) -> None:
    whole = bytes(skip) + b"".join(frames)
    ends = {skip}
    for each in frames:
        ends.add(max(ends) + len(each))
    found, position = FrameTracker(skip=skip), 0
    while position < len(whole):
        step = draw.draw(st.integers(1, len(whole) - position))
        found.receive(whole[position : position + step])
        position += step
        assert found.is_between_frames is (position in ends)


def test_before_what_is_skipped_has_passed_no_frame_may_follow() -> None:
    found = FrameTracker(skip=2)
    found.receive(b"a")
    assert not found.is_between_frames
    found.receive(b"b" + frame(b"c"))
    assert found.is_between_frames


def test_the_close_frame_says_that_a_server_goes_away_and_why() -> None:
    assert render_going_away("bye") == b"\x88\x05" + (1001).to_bytes(2) + b"bye"


@pytest.mark.parametrize(
    ("make", "code"), [(websocket.render_going_away, 1001), (websocket.render_policy_violation, 1008)]
)
@pytest.mark.parametrize("reason", ["", "the proxy ends", "x" * 500])
def test_a_close_frame_has_a_code_and_a_reason_that_fits(make: Callable[[str], bytes], code: int, reason: str) -> None:
    frame = make(reason)
    assert (frame[0], frame[1]) == (0x88, len(frame) - 2)
    assert int.from_bytes(frame[2:4]) == code
    assert frame[4:].decode() == reason[:123]
