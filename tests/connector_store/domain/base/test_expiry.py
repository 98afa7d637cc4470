"""Times of a token, and their form in messages."""

import base64

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.expiry import TokenTimes, format_relative_time, read_token_times


def token(**claims: object) -> str:
    return jwt.encode(claims, "x" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(token(iat=1000, exp=2000), TokenTimes(1000, 2000), id="both"),
        pytest.param(token(exp=2000.5), TokenTimes(None, 2000.5), id="an end in a fraction"),
        pytest.param(token(sub="x"), TokenTimes(), id="a token that does not end"),
        pytest.param(token(exp=True), TokenTimes(), id="no number"),
        pytest.param(token(exp=10**400), TokenTimes(), id="a number that is not a time"),
        pytest.param(token(exp=10**12), TokenTimes(), id="after all calendars"),
        pytest.param(token(exp=1800000000000), TokenTimes(), id="milliseconds"),
        pytest.param(token(exp=-5), TokenTimes(), id="negative"),
        pytest.param(token(exp="1800000000"), TokenTimes(), id="seconds as text"),
        pytest.param("a.eyJleHAiOk5hTn0.c", TokenTimes(), id="not a number"),
        pytest.param("opaque", TokenTimes(), id="no JWT"),
        pytest.param("a.b.c", TokenTimes(), id="no JSON in it"),
        pytest.param("a.W10.c", TokenTimes(), id="a list in it"),
        pytest.param("a.\udcff.c", TokenTimes(), id="no characters"),
    ],
)
def test_times_of_a_token(text: str, expected: TokenTimes) -> None:
    assert read_token_times(text) == expected


@given(st.text())
def test_every_text_has_valid_times_or_none(text: str) -> None:
    assert isinstance(read_token_times(f"a.{text}.c"), TokenTimes)


def test_deep_nesting_is_not_a_token() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    assert read_token_times(f"a.{deep}.c") == TokenTimes()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "in 0 s"), (119, "in 119 s"), (120, "in 2 min"), (2400, "in 40 min"), (7200, "in 2 h"), (86400, "in 24 h"),
     (172800, "in 2 days"), (-59, "59 s ago"), (-259200, "3 days ago")],
)  # fmt: skip
def test_a_time_is_formatted_in_one_unit(seconds: float, expected: str) -> None:
    assert format_relative_time(seconds) == expected
