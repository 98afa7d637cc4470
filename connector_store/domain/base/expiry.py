"""When a token ends, as it says itself: unverified, for people. Clocks differ, so nothing is refused because of it.

>>> in_words(3 * 3600 + 1500), in_words(-3 * 86400)
('in 3 h', '3 days ago')
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

DEFAULT_EXPIRY_WARNING: Final = 24 * 3600.0
"""Seconds before its end from which on a credential is said to end soon."""
_MAX_TIME: Final = 253402300800.0
"""The year 10000: what is later is no time in seconds, milliseconds for instance, and no date can be made of it."""
_UNITS: Final = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (2 * 60, 60, "min"), (0, 1, "s"))
"""From how many seconds on, what one of it is, and its name."""


class TokenTimes(NamedTuple):
    """Of a JWT, in unix seconds; None where it does not say (RFC 7519 section 4.1)."""

    issued_at: float | None = None
    expires_at: float | None = None


def read_token_times(token: str) -> TokenTimes:
    """`iat` and `exp` of a JWT; of a text that is none, neither."""
    try:
        payload = token.split(".")[1]
        claims: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return TokenTimes(_parse_time(claims.get("iat")), _parse_time(claims.get("exp")))
    except (IndexError, AttributeError, ValueError, RecursionError):
        return TokenTimes()


def format_relative_time(seconds: float) -> str:
    """A time from now, in one unit: `in 40 min`, `3 days ago`."""
    magnitude = abs(int(seconds))
    size, name = next((size, name) for least, size, name in _UNITS if magnitude >= least)
    text = f"{magnitude // size} {name}"
    return f"{text} ago" if seconds < 0 else f"in {text}"


def _parse_time(claim: object) -> float | None:
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        value = float(claim)
    except OverflowError:
        return None
    return value if 0 <= value < _MAX_TIME else None
