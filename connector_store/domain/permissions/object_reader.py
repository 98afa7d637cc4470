"""Reader of objects whose text arrives in pieces. It reads a large object part by part, so that no part takes long.

A Secret of 60,000 keys takes 100 ms when it is read whole, half of it for `managedFields`. The reader drops these, and
masks the entries of `data` as they arrive. The rewriting of the object then finds an empty `data`, and its result gets
the masked entries.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from connector_store.domain.permissions.json_buffer import MAX_OBJECT, IncompleteError, JsonBuffer, encode
from connector_store.domain.permissions.mask import ENTRY_FIELDS, mask_entries

LARGE_OBJECT: Final = 32 * 1024
"""Bytes of an object that is read part by part, unless the rest of it has arrived, too."""
_DROPPED: Final = "managedFields"
_CONTAINERS: Final = frozenset({("metadata", "{"), ("object", "{"), ("rows", "[")})
"""Fields that contain `managedFields` or one of `ENTRY_FIELDS`, with their brackets."""

_Path = tuple[str | int, ...]
_Parts = Mapping[_Path, list[bytes]]


class ObjectReader:
    """Reads one object after another, and rewrites each."""

    def __init__(self, buffer: JsonBuffer, rewrite: Callable[[Any], object]) -> None:
        self._buffer = buffer
        self._rewrite = rewrite
        self._large: _LargeObject | None = None

    def read(self) -> object | None:
        """Read a part. Return the rewritten object if it is complete: encoded as bytes if it is a large one."""
        large = self._large
        if large is None:
            try:
                return self._rewrite(self._buffer.value())
            except IncompleteError:
                if self._buffer.rest_size < LARGE_OBJECT or self._buffer.sign() != "{":
                    raise
                self._large = _LargeObject(self._buffer)
                return None
        if not large.read():
            return None
        self._large = None
        return _render(self._rewrite(large.skeleton), large.parts, ())


class _LargeObject:
    """Object of which a part has been read, beginning behind its bracket."""

    def __init__(self, buffer: JsonBuffer) -> None:
        self.skeleton: dict[str, Any] = {}
        """The object without `managedFields`, and with empty `ENTRY_FIELDS`."""
        self.parts: dict[_Path, list[bytes]] = {}
        """Masked entries of `ENTRY_FIELDS`."""
        self._buffer = buffer
        self._end = buffer.offset + MAX_OBJECT
        self._containers: list[dict[str, Any] | list[Any]] = [self.skeleton]
        self._path: _Path = ()
        """Names of the containers but the first one."""
        self._depth = 0
        """Open brackets of a value that is dropped."""
        self._step = self._read_member

    def read(self) -> bool:
        """Read a part. Return True at the end of the object."""
        self._step()
        if self._buffer.offset > self._end:
            raise ValueError(f"an object of more than {MAX_OBJECT} bytes")
        return not self._containers

    def _read_member(self) -> None:
        buffer, container = self._buffer, self._containers[-1]
        if not container and buffer.peek() == self._closing_bracket:
            self._step = self._read_separator
            return
        name: str | int = len(container) if isinstance(container, list) else self._read_name()
        bracket, path = buffer.peek(), (*self._path, name)
        if bracket == "{" and name in ENTRY_FIELDS:
            buffer.sign()
            self.parts[path] = []
            self._add(name, {})
            self._path, self._step = path, self._read_entries
        elif (name, bracket) in _CONTAINERS or (isinstance(name, int) and bracket == "{"):
            buffer.sign()
            child: dict[str, Any] | list[Any] = {} if bracket == "{" else []
            self._add(name, child)
            self._containers.append(child)
            self._path = path
        elif name == _DROPPED and bracket in "[{":
            self._step = self._skip
        else:
            self._add(name, buffer.value())
            self._step = self._read_separator

    def _read_name(self) -> str:
        name = self._buffer.value()
        if not isinstance(name, str):
            raise ValueError("a field without a name")
        self._buffer.expect(":")
        return name

    def _add(self, name: str | int, value: object) -> None:
        container = self._containers[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            container[str(name)] = value

    @property
    def _closing_bracket(self) -> str:
        return "]" if isinstance(self._containers[-1], list) else "}"

    def _read_separator(self) -> None:
        if self._buffer.expect("," + self._closing_bracket) == ",":
            self._step = self._read_member
            return
        self._containers.pop()
        self._path = self._path[:-1]

    def _read_entries(self) -> None:
        if self._buffer.peek() == "}":
            self._buffer.sign()
            self._path, self._step = self._path[:-1], self._read_separator
            return
        entries = mask_entries(str(self._path[-1]), self._buffer.pairs())
        self.parts[self._path].append(encode(entries)[1:-1])

    def _skip(self) -> None:
        bracket = self._buffer.bracket()
        if bracket:
            self._depth += 1 if bracket in "[{" else -1
            if not self._depth:
                self._step = self._read_separator


def _render(value: object, parts: _Parts, path: _Path) -> bytes:
    """Encode a rewritten object, with the parts of its fields that were read part by part."""
    if path in parts:
        return b"{" + b",".join(parts[path]) + b"}"
    if not any(each[: len(path)] == path for each in parts):
        return encode(value)
    if isinstance(value, list):
        return b"[" + b",".join(_render(item, parts, (*path, index)) for index, item in enumerate(value)) + b"]"
    if not isinstance(value, dict):
        return encode(value)
    members = [encode(name) + b":" + _render(field, parts, (*path, name)) for name, field in value.items()]
    return b"{" + b",".join(members) + b"}"
