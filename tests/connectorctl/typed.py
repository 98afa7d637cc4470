"""What a command line gives."""

from typing import NamedTuple, Protocol


class Typed(NamedTuple):
    code: int
    out: str
    err: str


class Type(Protocol):
    def __call__(self, line: str, *, plugin: bool = False) -> Typed: ...
