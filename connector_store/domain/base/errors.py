"""The error of the domain: input that cannot be parsed.

>>> str(ParseError("spec.address", "has no host; write https://HOST[:PORT][/PATH]"))
'spec.address: has no host; write https://HOST[:PORT][/PATH]'
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ParseError(ValueError):
    """Input that does not follow the API reference.

    `path` is the field as kubectl writes it, such as `spec.auth.secretRef.name` or `data[token]`. It is empty if the
    error is about the whole input. `reason` says what is wrong and what to write instead. Neither quotes secret data.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


@contextmanager
def parse_errors_at(path: str) -> Iterator[None]:
    """Give `path` to the ParseErrors of the block."""
    try:
        yield
    except ParseError as error:
        raise ParseError(path, error.reason) from None
