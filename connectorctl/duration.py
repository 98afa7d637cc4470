"""Durations as people write them to kubectl.

>>> parse_duration("1h30m")
5400
"""

import re
from typing import Final

from connector_store.domain.errors import ParseError

LONGEST: Final = 366 * 24 * 3600
_FORM: Final = re.compile(r"(?=.)(?:([0-9]{1,5})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,8})s)?", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,8}", re.ASCII)


def parse_duration(text: str) -> int:
    """Read `30m`, `1h30m`, `90s` or plain seconds; in seconds, more than 0 and at most a year."""
    form = _FORM.fullmatch(text)
    if form is not None:
        hours, minutes, seconds = (int(each or 0) for each in form.groups())
        total = hours * 3600 + minutes * 60 + seconds
    elif _SECONDS.fullmatch(text):
        total = int(text)
    else:
        raise ParseError("", "is not a duration; write it as 30m, 1h30m or 90s")
    if not 0 < total <= LONGEST:
        raise ParseError("", "is not between 1s and a year")
    return total
