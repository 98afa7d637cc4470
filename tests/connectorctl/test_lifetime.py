import pytest

from connector_store.domain.base.errors import ParseError
from connectorctl.lifetime import parse_lifetime


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("90s", 90), ("600", 600), ("1h0m5s", 3605), ("8784h", 31622400)],
)
def test_a_lifetime_is_parsed(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "500ms", "m", "1d", "-5m", "30 m", "\N{ARABIC-INDIC DIGIT THREE}m", "8785h", "9" * 400]
)
def test_an_invalid_lifetime_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_lifetime(text)
