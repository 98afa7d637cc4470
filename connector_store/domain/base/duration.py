"""Durations in the notation of kubectl and Go (time.ParseDuration), without signs and days.

>>> parse_duration("1h30m"), parse_duration("1.5h"), parse_duration("500ms"), parse_duration("90")
(5400.0, 5400.0, 0.5, 90.0)
"""

import re
from typing import Final

from connector_store.domain.base.errors import ParseError

_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DURATION: Final = re.compile(rf"(?:{_NUMBER}(?:h|ms|m|s))+", re.ASCII)
_PART: Final = re.compile(rf"({_NUMBER})(h|ms|m|s)", re.ASCII)
_SECONDS: Final = re.compile(_NUMBER, re.ASCII)
_UNIT_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: str) -> float:
    """Parse a duration and return seconds, 0 or more. A number without a unit is seconds.

    Raises ParseError with an empty path.
    """
    if _SECONDS.fullmatch(text) is not None:
        return float(text)
    if _DURATION.fullmatch(text) is None:
        raise ParseError("", "is not a duration; write it as 30m, 1h30m or 90s")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
