"""JSON text -> value, however deep somebody nested it.

The API server takes 10,000 levels, a little more than Python's parser does, and a list holds objects of many owners:
one that nested too deep would hide all the others.

>>> load(b'{"a": [1]}')
{'a': [1]}
"""

import json
import re
from typing import Final

DEEPEST: Final = 1000
"""Levels that are kept where the text is too deep: nothing that is read here lies deeper than a few."""

_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def load(text: bytes | bytearray) -> object:
    """The value; what lies deeper than the parser can go is null. ValueError if it is no JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(shallow(text, DEEPEST))


def shallow(text: bytes | bytearray, deepest: int) -> bytes:
    """The same JSON text with null in place of each array and object below level `deepest`.

    >>> shallow(b'[[1], {"]": [2]}]', 2)
    b'[[1], {"]": null}]'
    """
    kept = bytearray()
    depth = start = 0
    for token in _TOKENS.finditer(text):
        first = token.group()[:1]
        if first in b"[{":
            if depth == deepest:
                kept += text[start : token.start()] + b"null"
            depth += 1
        elif first in b"]}":
            depth -= 1
            if depth == deepest:
                start = token.end()
    return bytes(kept + text[start:])
