"""Parser of YAML text into documents with the line of every field.

It reads libyaml's events without recursion. Nesting, size and the expansion of aliases are bounded, because the files
may not be trusted. Plain scalars have the same types as for kubectl (go-yaml v2). No field of the product is a
fraction, so a fraction's value is not read.

>>> documents, problem = parse_documents(b"a: {b: yes}\\n---\\nc: [1, x]\\n")
>>> documents, problem
([Document(value={'a': {'b': True}}, line=1), Document(value={'c': [1, 'x']}, line=3)], None)
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

import yaml

MAX_DEPTH: Final = 64
MAX_NODES: Final = 500_000
"""Maximum number of values in one text. The values of an alias count each time."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
}
_INTEGER: Final = re.compile(
    r"[-+]?(0b[01][01_]{0,63}|0x[0-9a-fA-F][0-9a-fA-F_]{0,63}|0o[0-7][0-7_]{0,63}|[0-9][0-9_]{0,63})"
)
_FLOAT: Final = re.compile(
    r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})
_CONTAINER_TAGS: Final = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_TAG_NOT_SUPPORTED: Final = "has a tag that is not read here; remove it"
_MERGE_KEY: Final = "<<"
_STEP_PATTERN: Final = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


class LocatedMapping(dict[str, object]):
    """Mapping with the line of each key."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class LocatedList(list[object]):
    """List with the line of each item."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


@dataclass(frozen=True, slots=True)
class Document:
    """YAML document. `line` (from 1) is where its content begins."""

    value: object
    line: int


class YamlProblem(NamedTuple):
    """Reason why a text cannot be read, with its line. It never quotes a value."""

    line: int
    reason: str


def parse_documents(data: bytes) -> tuple[list[Document], YamlProblem | None]:
    """Return all documents except empty ones. If there is a problem, return the documents before it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [], YamlProblem(data.count(b"\n", 0, error.start) + 1, "is not UTF-8; save the file as UTF-8")
    loader = _LOADER(text)
    builder = _Builder()
    try:
        while loader.check_event():
            builder.handle(loader.get_event())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark is not None else 1
        return builder.documents, YamlProblem(line, f"is not YAML: {error.problem}")
    except yaml.YAMLError:
        return builder.documents, YamlProblem(1, "is not YAML: it has characters that are not allowed")
    except _StopError as stop:
        return builder.documents, stop.problem
    finally:
        loader.dispose()
    return builder.documents, None


def line_of(document: Document, path: str) -> int:
    """Return the line of a field, such as `spec.auth.types[0].name` or `data[ca.crt]`.

    If the field is absent, return the line of the innermost part that exists.
    """
    value, line = document.value, document.line
    for match in _STEP_PATTERN.finditer(path):
        step = match[1] if match[1] is not None else match[2]
        if isinstance(value, LocatedMapping) and step in value:
            line, value = value.lines.get(step, line), value[step]
        elif isinstance(value, LocatedList) and step.isdecimal() and int(step) < len(value):
            line, value = value.lines[int(step)], value[int(step)]
        else:
            break
    return line


class _StopError(Exception):
    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.problem = YamlProblem(line, reason)


@dataclass(slots=True)
class _Frame:
    """Container that is being filled. It begins at `line`. `node_count` is the number of nodes before it."""

    container: LocatedMapping | LocatedList
    line: int
    anchor: str | None
    node_count: int
    key: str | None = None
    """Key of a mapping that has no value yet, and its line."""
    key_line: int = 0


class _Builder:
    """Builder of documents from events. Its anchors map to a value and the number of its nodes."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._nodes = 0

    def handle(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1  # type: ignore[union-attr]  # the stubs' None is for events not from a parser
        match event:
            case yaml.ScalarEvent():
                self._count(line, 1)
                self._finish(line, _parse_scalar(line, event, self._expects_key()), event.anchor, 1)
            case yaml.MappingStartEvent():
                self._open(LocatedMapping(), line, event)
            case yaml.SequenceStartEvent():
                self._open(LocatedList(), line, event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                frame = self._stack.pop()
                self._finish(frame.line, frame.container, frame.anchor, self._nodes - frame.node_count)
            case yaml.AliasEvent():
                self._alias(line, event.anchor)
            case yaml.DocumentStartEvent():
                self._anchors.clear()

    def _count(self, line: int, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _StopError(line, f"has more than {MAX_NODES} values; split the file")

    def _expects_key(self) -> bool:
        if not self._stack:
            return False
        return isinstance(self._stack[-1].container, LocatedMapping) and self._stack[-1].key is None

    def _open(self, container: LocatedMapping | LocatedList, line: int, event: yaml.CollectionStartEvent) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _StopError(line, f"is nested deeper than {MAX_DEPTH} levels")
        if self._expects_key():
            raise _StopError(line, "has a key that is not text")
        if event.tag is not None and event.tag not in _CONTAINER_TAGS:
            raise _StopError(line, _TAG_NOT_SUPPORTED)
        self._stack.append(_Frame(container, line, event.anchor, self._nodes))
        self._count(line, 1)

    def _alias(self, line: int, anchor: str | None) -> None:
        definition = self._anchors.get(anchor or "")
        if definition is None:
            raise _StopError(line, "refers to an anchor that is not defined above it")
        self._count(line, definition[1])
        self._finish(line, definition[0], None, definition[1])

    def _finish(self, line: int, value: object, anchor: str | None, nodes: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, nodes)
        if not self._stack:
            if value is not None:
                self.documents.append(Document(value, line))
            return
        frame = self._stack[-1]
        if isinstance(frame.container, LocatedList):
            frame.container.append(value)
            frame.container.lines.append(line)
        elif frame.key is None:
            frame.key, frame.key_line = _check_key(line, value, frame.container), line
        else:
            key, frame.key = frame.key, None
            if key == _MERGE_KEY:
                _merge(line, value, frame.container)
            else:
                frame.container[key] = value
                frame.container.lines[key] = frame.key_line


def _parse_scalar(line: int, event: yaml.ScalarEvent, is_key: bool) -> object:
    if event.tag is not None and event.tag not in _TEXT_TAGS:
        raise _StopError(line, _TAG_NOT_SUPPORTED)
    if event.tag is None and event.implicit[0] and not is_key:
        return _parse_plain(event.value)
    return event.value


def _check_key(line: int, key: object, container: LocatedMapping) -> str:
    if not isinstance(key, str):
        raise _StopError(line, "has a key that is not text")
    if key in container.lines:
        raise _StopError(line, "has a key twice")
    return key


def _merge(line: int, value: object, container: LocatedMapping) -> None:
    """Merge `value` into a mapping (https://yaml.org/type/merge.html). The mapping's own keys have precedence."""
    for each in value if isinstance(value, LocatedList) else [value]:
        if not isinstance(each, LocatedMapping):
            raise _StopError(line, "merges something that is not an object")
        for key, inner in each.items():
            container.setdefault(key, inner)


def _parse_plain(text: str) -> object:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text) is not None:
        return _parse_integer(text.replace("_", ""))
    return float("nan") if _FLOAT.fullmatch(text) is not None else text


def _parse_integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return int(text)
