"""Field and label selectors of a query string, as far as they decide what a request is taken for.

The API server forgets a selector's name where any of its list options cannot be read, so what cannot be read matters.
Sources: k8s.io/apimachinery, pkg/fields/selector.go and pkg/labels/selector.go (Kubernetes 1.37).

>>> exact_name("metadata.name=a,status.phase!=Running")
'a'
>>> is_label_selector("app in (a, b),!canary"), is_label_selector("app in a")
(True, False)
"""

import re
from collections.abc import Iterator
from typing import Final

from connector_store.domain.base.names import is_subdomain

_OPERATOR = re.compile(r"!=|==|=")
_VALUE = re.compile(r"(?:\\[\\,=]|[^\\,=])*")

# A NUL ends the token before it and is swallowed with it; one that stands alone ends the selector.
_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<sign>==|!=|[=!(),<>])|(?P<word>[^\0=!(),<> \t\r\n]+))\0?")
_LABEL_NAME = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
_SETS: Final = frozenset({"in", "notin"})
_EQUALS: Final = frozenset({"=", "==", "!="})
_NUMBER = re.compile(r"[0-9]{1,63}")
_INT64_MAX: Final = 2**63 - 1
_WORD: Final = "w"
_END: Final = ("", "")

_Token = tuple[str, str]
"""Kind (`w` for words, the sign itself, empty at the end) and text."""


def exact_name(selector: str) -> str | None:
    """The value that a field selector requires of metadata.name, empty if none; None if the selector is malformed.

    Terms are sorted, and the first of that field counts.
    """
    names: list[str] = []
    for term in sorted(_terms(selector)):
        operator = _OPERATOR.search(term)
        if operator is None or _VALUE.fullmatch(term, operator.end()) is None:
            return None
        if operator[0] != "!=" and term[: operator.start()] == "metadata.name":
            names.append(re.sub(r"\\(.)", r"\1", term[operator.end() :], flags=re.DOTALL))
    return names[0] if names else ""


def _terms(selector: str) -> list[str]:
    terms: list[str] = []
    start = inside = 0
    for index, sign in enumerate(selector):
        if inside:
            inside = 0
        elif sign == "\\":
            inside = 1
        elif sign == ",":
            terms.append(selector[start:index])
            start = index + 1
    return [each for each in (*terms, selector[start:]) if each]


def is_label_selector(selector: str) -> bool:
    """True for what the API server can read as a label selector; the empty text is one."""
    tokens = _Tokens(selector)
    if tokens.seen == _END:
        return True
    while _requirement(tokens):
        if tokens.seen == _END:
            return True
        if tokens.take() != (",", ","):
            return False
    return False


class _Tokens:
    """The tokens of a label selector, one of them seen."""

    def __init__(self, selector: str) -> None:
        self._rest = _tokens(selector)
        self.seen = next(self._rest)

    def take(self) -> _Token:
        taken, self.seen = self.seen, next(self._rest)
        return taken


def _tokens(selector: str) -> Iterator[_Token]:
    position = 0
    while (found := _TOKEN.match(selector, position)) is not None:
        position = found.end()
        yield (_WORD, found["word"]) if found["word"] else (found["sign"], found["sign"])
    while True:
        yield _END


def _requirement(tokens: _Tokens) -> bool:
    absent = tokens.seen[0] == "!"
    if absent:
        tokens.take()
    kind, key = tokens.take()
    if kind != _WORD or not _is_key(key):
        return False
    if tokens.seen[0] in ("", ","):
        return True
    if absent:
        return False
    kind, operator = tokens.take()
    if kind == _WORD:
        return operator in _SETS and _values(tokens)
    if kind in _EQUALS:
        return tokens.seen[0] in ("", ",") or _value(tokens)
    if kind not in ("<", ">"):
        return False
    number = tokens.seen[1]
    return _value(tokens) and _NUMBER.fullmatch(number) is not None and int(number) <= _INT64_MAX


def _values(tokens: _Tokens) -> bool:
    """`(a,b)`; members may be empty."""
    if tokens.take()[0] != "(":
        return False
    while tokens.seen[0] != ")":
        if tokens.seen[0] == _WORD:
            if not _value(tokens) or tokens.seen[0] not in (",", ")"):
                return False
        elif tokens.take()[0] != ",":
            return False
    tokens.take()
    return True


def _value(tokens: _Tokens) -> bool:
    kind, value = tokens.take()
    return kind == _WORD and _LABEL_NAME.fullmatch(value) is not None


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return _LABEL_NAME.fullmatch(name) is not None and (not slash or is_subdomain(prefix))
