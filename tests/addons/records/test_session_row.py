"""Rows about live connections."""

import pytest

from addons.records.session_row import MAX_TEXT, session_kind, shorten


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("", "request"), ("watch", "watch"), ("log", "logs"), ("exec", "exec"), ("portforward", "port-forward")],
)
def test_the_kind_of_a_row(kind: str, expected: str) -> None:
    assert session_kind(kind) == expected


@pytest.mark.parametrize("size", [0, MAX_TEXT, MAX_TEXT + 1, 65536])
def test_a_text_is_bounded(size: int) -> None:
    text = shorten("x" * size)
    assert len(text) == min(size, MAX_TEXT)
    assert text.endswith("...") == (size > MAX_TEXT)
