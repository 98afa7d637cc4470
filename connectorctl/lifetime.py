"""Lifetime of a token.

>>> parse_lifetime("1h30m")
5400
"""

from typing import Final

from connector_store.domain.base.duration import parse_duration
from connector_store.domain.base.errors import ParseError

MAX_LIFETIME: Final = 366 * 24 * 3600


def parse_lifetime(text: str) -> int:
    """Parse a duration into whole seconds: at least 1, at most a year."""
    seconds = int(parse_duration(text))
    if not 0 < seconds <= MAX_LIFETIME:
        raise ParseError("", "is not between 1s and a year")
    return seconds
