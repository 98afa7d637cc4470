"""JSON parsing that accepts any depth of nesting.

The API server accepts 10,000 levels, a little more than Python's parser. A list contains objects of many owners, so
one deeply nested object must not make the whole list unreadable.

>>> load_json(b'{"a": [1]}')
{'a': [1]}
"""

import json
import re
from typing import Final

MAX_DEPTH: Final = 1000
"""Levels that remain when a text is too deep for the parser. The product reads only the first few levels."""

_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def load_json(text: bytes | bytearray) -> object:
    """Parse JSON. Values below `MAX_DEPTH` become null if the text is too deep. Raises ValueError if it is not JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(limit_depth(text, MAX_DEPTH))


def limit_depth(text: bytes | bytearray, max_depth: int) -> bytes:
    """Replace each array and object below level `max_depth` of a JSON text with null.

    >>> limit_depth(b'[[1], {"]": [2]}]', 2)
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
