"""Buffer of JSON text that arrives in pieces, from which values are read when they are complete.

>>> buffer, values = JsonBuffer(), []
>>> for piece in (b'{"a": 1} {"b"', b': 2}'):
...     if buffer.receive(piece):
...         buffer.read(lambda: values.append(buffer.value()))
>>> values
[{'a': 1}, {'b': 2}]
"""

import json
import re
from collections.abc import Callable
from json.scanner import make_scanner
from typing import Any, Final, cast

MAX_OBJECT: Final = 4 * 1024 * 1024
"""Maximum bytes of one object. An object in etcd has 1.5 MiB at most, with its default limit."""

_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING: Final = r'"(?:[^"\\]++|\\.)*+"'
_PAIR: Final = rf"\s*+{_STRING}\s*+:\s*+(?:{_STRING}|null)\s*+"
# Possessive quantifiers do not backtrack, so the time and memory of a match do not depend on what follows it.
_PAIRS = re.compile(rf"(?:{_PAIR},)++")
_LAST_PAIR = re.compile(rf"{_PAIR}(?=\}})")
_NO_BRACKET = re.compile(rf'(?:[^"\[\]{{}}]++|{_STRING}|\{{\}})*+')
"""Text without an open bracket: strings, empty objects, and anything between them."""

_scan: Final = make_scanner(cast("Any", json.JSONDecoder()))
_encode: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, ensure_ascii=False, check_circular=False
).encode


class IncompleteError(Exception):
    """The buffer ends within a value."""


def encode(value: object) -> bytes:
    """Return a value as compact JSON. Bytes that `JsonBuffer` did not decode pass as they are."""
    try:
        return _encode(value).encode("utf-8", "surrogateescape")
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def decode(data: bytes | bytearray) -> Any:
    """Parse JSON. Raises ValueError also if it is nested too deep."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


class JsonBuffer:
    """Text that was received and not read yet. Its methods raise IncompleteError where it ends.

    The parser starts at the beginning of an incomplete value again, so it waits for half as much again.
    With `is_prompt`, it is also called when a value may be complete, up to `MAX_PROMPT_READS` times for each value.

    The text has one character for each byte that is not ASCII. It takes two bytes for each character at most.
    """

    MAX_PROMPT_READS: Final = 16

    def __init__(self, *, is_prompt: bool = False) -> None:
        self._is_prompt = is_prompt
        self._prompt_reads = 0
        self._pieces: list[str] = []
        self._size = 0
        self._needed = 0
        self._text = ""
        self._position = 0
        self._start = 0
        """Position to which an interrupted step returns."""
        self._discarded = 0

    def receive(self, data: bytes) -> bool:
        """Add data. Return True if `read` may be called."""
        self._pieces.append(data.decode("ascii", "surrogateescape"))
        self._size += len(data)
        if self._size >= self._needed:
            return True
        if not self._is_prompt or self._prompt_reads >= self.MAX_PROMPT_READS or not data.rstrip().endswith(b"}"):
            return False
        self._prompt_reads += 1
        return True

    def read(self, step: Callable[[], object]) -> None:
        """Call `step`, which reads a value, until the buffer ends within a value.

        The next call reads what the interrupted step has read again.
        """
        self._text = "".join(self._pieces)
        self._pieces.clear()
        try:
            while True:
                self._start = self._position
                step()
        except IncompleteError:
            start = self._start
        rest = self._text[start:]
        self._text, self._position = "", 0
        self._discarded += start
        self._pieces.append(rest)
        self._size = len(rest)
        if self._size > MAX_OBJECT:
            raise ValueError(f"an object of more than {MAX_OBJECT} bytes")
        if start:
            self._needed = self._prompt_reads = 0
        else:
            self._needed = min(self._size + self._size // 2 + 1, MAX_OBJECT + 1)

    def peek(self) -> str:
        """Return the next character that is not white space."""
        text, position = self._text, self._position
        if position == len(text) or text[position] in " \t\r\n":
            match = _SPACE.match(text, position)
            self._position = position = match.end() if match is not None else position
            if position == len(text):
                raise IncompleteError
        return text[position]

    def sign(self) -> str:
        """Read the next character that is not white space."""
        sign = self.peek()
        self._position += 1
        return sign

    def expect(self, signs: str) -> str:
        """Read one of these characters."""
        sign = self.sign()
        if sign not in signs:
            raise ValueError(f"{sign!r} in JSON, where {' or '.join(signs)} is expected")
        return sign

    def accept(self, sign: str) -> bool:
        """Read `sign` if it is the next character. An interrupted step then returns to the place behind it."""
        if not self._text.startswith(sign, self._position):
            return False
        self._position += 1
        self._start = self._position
        return True

    def value(self) -> Any:
        """Read the next value. The last character of a number may be missing, so one more character must follow."""
        self.peek()
        try:
            value, end = _scan(self._text, self._position)
        except RecursionError:
            raise ValueError("JSON that is nested too deep") from None
        except (ValueError, StopIteration):
            # The parser does not distinguish a cut from an error. The bound of the buffer does.
            raise IncompleteError from None
        if end == len(self._text) and not isinstance(value, dict):
            raise IncompleteError
        self._position = end
        return value

    def pairs(self) -> dict[str, str | None]:
        """Read the next members of an object whose values are strings or null, without its bracket."""
        match = _PAIRS.match(self._text, self._position)
        end = match.end() - 1 if match is not None else 0
        if match is None:
            match = _LAST_PAIR.match(self._text, self._position)
            if match is None:
                raise IncompleteError
            end = match.end()
        pairs: dict[str, str | None] = json.loads(f"{{{self._text[self._position : end]}}}")
        self._position = match.end()
        return pairs

    def bracket(self) -> str:
        """Read the next bracket and what is in front of it, or as much as there is of that. Return it, or ''."""
        match = _NO_BRACKET.match(self._text, self._position)
        end = match.end() if match is not None else self._position
        if end < len(self._text) and self._text[end] != '"':
            self._position = end + 1
            return self._text[end]
        if end == self._position:
            raise IncompleteError
        self._position = end
        return ""

    @property
    def rest_size(self) -> int:
        """Bytes that were received and not read yet, within `read`."""
        return len(self._text) - self._position

    @property
    def offset(self) -> int:
        """Bytes that were read."""
        return self._discarded + self._position

    @property
    def is_at_end(self) -> bool:
        """True if only white space is left."""
        return not "".join(self._pieces).strip(" \t\r\n")
