"""JSON text -> value, however deep somebody nested it.

The API server takes 10,000 levels, a little more than Python's parser does, and a list holds objects of many owners:
one that nested too deep would hide all the others.

>>> load(b'{"a": [1]}')
{'a': [1]}
"""

import json
import re
from typing import Final

MAX_DEPTH: Final = 1000
"""Levels that are kept where the text is too deep: nothing that is read here lies deeper than a few."""

_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def load_json(text: bytes | bytearray) -> object:
    """The value; what lies deeper than the parser can go is null. ValueError if it is no JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(limit_depth(text, MAX_DEPTH))


def limit_depth(text: bytes | bytearray, max_depth: int) -> bytes:
    """The same JSON text with null in place of each array and object below level `deepest`.

    >>> shallow(b'[[1], {"]": [2]}]', 2)
    b'[[1], {"]": null}]'
    """
    output = bytearray()
    depth = copy_from = 0
    for token in _TOKENS.finditer(text):
        bracket = token.group()[:1]
        if bracket in b"[{":
            if depth == max_depth:
                output += text[copy_from : token.start()] + b"null"
            depth += 1
        elif bracket in b"]}":
            depth -= 1
            if depth == max_depth:
                copy_from = token.end()
    return bytes(output + text[copy_from:])
