import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.duration import parse_duration
from connector_store.domain.base.errors import ParseError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("5m1h", 3900),
        ("90s", 90),
        ("500ms", 0.5),
        ("600", 600),
        ("0", 0),
        ("1h0m5s", 3605),
        ("8784h", 31622400),
    ],
)
def test_a_duration_is_parsed(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1d", "-5m", "+5m", ".5h", "5.m", "30 m", "٣m", "1m5", "inf", "9" * 400])
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ParseError, match="write it as 30m"):
        parse_duration(text)


@given(st.text(max_size=30))
def test_every_text_is_a_number_or_a_parse_error(text: str) -> None:
    with contextlib.suppress(ParseError):
        assert parse_duration(text) >= 0
