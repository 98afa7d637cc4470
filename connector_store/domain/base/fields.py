"""Typed access to an object decoded from JSON or YAML. A wrong type is a ParseError that names the field.

>>> spec = Fields({"auth": {"name": "a"}}, "spec")
>>> spec.child("auth").text("name"), spec.child("auth").text("other")
('a', None)
>>> Fields({"name": 5}, "metadata").text("name")
Traceback (most recent call last):
...
connector_store.domain.base.errors.ParseError: metadata.name: is not a string; put it in quotes
"""

from collections.abc import Iterable, Mapping
from typing import Any

from connector_store.domain.base.errors import ParseError


class Fields:
    """A mapping inside an object, and its path. A field that is absent or null counts as empty, as in Kubernetes."""

    __slots__ = ("_values", "path")

    def __init__(self, value: object, path: str) -> None:
        if value is not None and not isinstance(value, Mapping):
            raise ParseError(path, "is not an object")
        self._values: Mapping[Any, Any] = value or {}
        self.path = path

    def __bool__(self) -> bool:
        return bool(self._values)

    def path_of(self, name: str) -> str:
        """Return the path of a field, as kubectl writes it."""
        return f"{self.path}.{name}" if self.path else name

    def value(self, name: str) -> object:
        return self._values.get(name)

    def names(self) -> list[str]:
        return [str(name) for name in self._values]

    def reject_others(self, names: Iterable[str], hint: str) -> None:
        """Raise ParseError for the first field that is not one of `names`."""
        for unknown in sorted(set(self.names()).difference(names)):
            raise ParseError(self.path_of(unknown), f"is not a field; {hint}")

    def text(self, name: str) -> str | None:
        """Return a string field, or None if it is absent, null or empty."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise ParseError(self.path_of(name), "is not a string; put it in quotes")
        return value or None

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise ParseError(self.path_of(name), "is neither true nor false")
        return bool(value)

    def number(self, name: str) -> int:
        """Return an integer field, or 0 if it is absent."""
        value = self._values.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ParseError(self.path_of(name), "is not a whole number")
        return value or 0

    def child(self, name: str) -> "Fields":
        return Fields(self._values.get(name), self.path_of(name))

    def items(self, name: str) -> list["Fields"]:
        """Return the objects of a list field."""
        return [Fields(item, f"{self.path_of(name)}[{index}]") for index, item in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the strings of a list field."""
        values = self._list(name)
        for index, item in enumerate(values):
            if not isinstance(item, str):
                raise ParseError(f"{self.path_of(name)}[{index}]", "is not a string; put it in quotes")
        return tuple(values)

    def _list(self, name: str) -> list[Any]:
        value = self._values.get(name)
        if value is not None and not isinstance(value, list):
            raise ParseError(self.path_of(name), "is not a list")
        return value or []
