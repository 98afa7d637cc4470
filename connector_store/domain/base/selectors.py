"""Field and label selectors of a query, as far as they affect the attributes of a request.

The API server ignores the name in a field selector if any list option is malformed, so syntax errors matter.
Sources: k8s.io/apimachinery, pkg/fields/selector.go and pkg/labels/selector.go (Kubernetes 1.37).

>>> required_name("metadata.name=a,status.phase!=Running")
'a'
>>> is_label_selector("app in (a, b),!canary"), is_label_selector("app in a")
(True, False)
"""

import re
from collections.abc import Iterator
from typing import Final

from connector_store.domain.base.names import is_dns_subdomain

_OPERATOR = re.compile(r"!=|==|=")
_FIELD_VALUE = re.compile(r"(?:\\[\\,=]|[^\\,=])*")

# A NUL ends the token before it and is dropped with it. A NUL without a token before it ends the selector.
_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<sign>==|!=|[=!(),<>])|(?P<word>[^\0=!(),<> \t\r\n]+))\0?")
_LABEL_NAME = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
_SET_OPERATORS: Final = frozenset({"in", "notin"})
_EQUALITY_OPERATORS: Final = frozenset({"=", "==", "!="})
_NUMBER_VALUE = re.compile(r"[0-9]{1,63}")
_INT64_MAX: Final = 2**63 - 1
_WORD: Final = "w"
_END: Final = ("", "")

_Token = tuple[str, str]
"""Kind and text of a token. The kind is `w` for words, the sign itself, or empty at the end."""


def required_name(selector: str) -> str | None:
    """Return the value that a field selector requires of metadata.name, or an empty string.

    Return None if the selector is malformed. Terms are sorted, and the first term of that field counts.
    """
    names: list[str] = []
    for term in sorted(_split_terms(selector)):
        operator = _OPERATOR.search(term)
        if operator is None or _FIELD_VALUE.fullmatch(term, operator.end()) is None:
            return None
        if operator[0] != "!=" and term[: operator.start()] == "metadata.name":
            names.append(re.sub(r"\\(.)", r"\1", term[operator.end() :], flags=re.DOTALL))
    return names[0] if names else ""


def selected_fields(selector: str) -> frozenset[str] | None:
    """Return the fields that a field selector names. Return None if the selector is malformed.

    >>> sorted(selected_fields("metadata.name=a,type!=Opaque") or ())
    ['metadata.name', 'type']
    """
    fields: set[str] = set()
    for term in _split_terms(selector):
        operator = _OPERATOR.search(term)
        if operator is None or _FIELD_VALUE.fullmatch(term, operator.end()) is None:
            return None
        fields.add(term[: operator.start()])
    return frozenset(fields)


def _split_terms(selector: str) -> list[str]:
    terms: list[str] = []
    start, is_escaped = 0, False
    for index, sign in enumerate(selector):
        if is_escaped:
            is_escaped = False
        elif sign == "\\":
            is_escaped = True
        elif sign == ",":
            terms.append(selector[start:index])
            start = index + 1
    return [term for term in (*terms, selector[start:]) if term]


def is_label_selector(selector: str) -> bool:
    """Return True if the API server can parse `selector` as a label selector. An empty selector is valid."""
    tokens = _TokenReader(selector)
    if tokens.lookahead == _END:
        return True
    while _consume_requirement(tokens):
        if tokens.lookahead == _END:
            return True
        if tokens.consume() != (",", ","):
            return False
    return False


class _TokenReader:
    """Reader of a label selector's tokens, with one token of lookahead."""

    def __init__(self, selector: str) -> None:
        self._remaining = _tokenize(selector)
        self.lookahead = next(self._remaining)

    def consume(self) -> _Token:
        token, self.lookahead = self.lookahead, next(self._remaining)
        return token


def _tokenize(selector: str) -> Iterator[_Token]:
    position = 0
    while (match := _TOKEN.match(selector, position)) is not None:
        position = match.end()
        yield (_WORD, match["word"]) if match["word"] else (match["sign"], match["sign"])
    while True:
        yield _END


def _consume_requirement(tokens: _TokenReader) -> bool:
    is_negated = tokens.lookahead[0] == "!"
    if is_negated:
        tokens.consume()
    kind, key = tokens.consume()
    if kind != _WORD or not _is_key(key):
        return False
    if tokens.lookahead[0] in ("", ","):
        return True
    if is_negated:
        return False
    kind, operator = tokens.consume()
    if kind == _WORD:
        return operator in _SET_OPERATORS and _consume_values(tokens)
    if kind in _EQUALITY_OPERATORS:
        return tokens.lookahead[0] in ("", ",") or _consume_value(tokens)
    if kind not in ("<", ">"):
        return False
    number = tokens.lookahead[1]
    return _consume_value(tokens) and _NUMBER_VALUE.fullmatch(number) is not None and int(number) <= _INT64_MAX


def _consume_values(tokens: _TokenReader) -> bool:
    """Consume `(a,b)`. Members may be empty."""
    if tokens.consume()[0] != "(":
        return False
    while tokens.lookahead[0] != ")":
        if tokens.lookahead[0] == _WORD:
            if not _consume_value(tokens) or tokens.lookahead[0] not in (",", ")"):
                return False
        elif tokens.consume()[0] != ",":
            return False
    tokens.consume()
    return True


def _consume_value(tokens: _TokenReader) -> bool:
    kind, value = tokens.consume()
    return kind == _WORD and _LABEL_NAME.fullmatch(value) is not None


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return _LABEL_NAME.fullmatch(name) is not None and (not slash or is_dns_subdomain(prefix))
