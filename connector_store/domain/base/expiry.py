"""Issue and expiry times that a JWT states, unverified.

They are for messages to people. Clocks differ, so no request is refused because of them.

>>> format_relative_time(3 * 3600 + 1500), format_relative_time(-3 * 86400)
('in 3 h', '3 days ago')
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_MAX_TIME: Final = 253402300800.0
"""The year 10000 in Unix seconds. A later value has another unit, such as milliseconds, and is not a valid date."""
_UNITS: Final = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (2 * 60, 60, "min"), (0, 1, "s"))
"""Units of time: smallest number of seconds to use the unit for, seconds in one unit, and name."""


class TokenTimes(NamedTuple):
    """Issue and expiry time of a JWT in Unix seconds, or None if the token does not have it (RFC 7519 section 4.1)."""

    issued_at: float | None = None
    expires_at: float | None = None


def read_token_times(token: str) -> TokenTimes:
    """Return `iat` and `exp` of a JWT. Both are None if `token` is not a JWT."""
    try:
        payload = token.split(".")[1]
        claims: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return TokenTimes(_parse_time(claims.get("iat")), _parse_time(claims.get("exp")))
    except (IndexError, AttributeError, ValueError, RecursionError):
        return TokenTimes()


def format_relative_time(seconds: float) -> str:
    """Format a time relative to now in one unit, such as `in 40 min` or `3 days ago`."""
    magnitude = abs(int(seconds))
    size, name = next((size, name) for minimum, size, name in _UNITS if magnitude >= minimum)
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
