"""The list-and-watch protocol without IO: bytes of a watch stream in, changes out, and where to go on.

    cursor = Cursor(parse)
    cursor.resource_version     None: the whole state is needed, by a list or by a watch with initial events
    cursor.feed(b'{"type": "ADDED", "object": {...}}\n')   -> Put(parse({...}))
    cursor.begin()              the next stream or list, wherever the last one ended

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.base.document import load_json

Raw = Mapping[str, Any]

EXPIRED: Final = 410
"""HTTP status, and Status.code of an ERROR event, of a resourceVersion that the server no longer knows."""

_BUSY: Final = 429
"""The one ERROR event that says nothing about the position, as client-go's reflector has it."""

INITIAL_END: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a streaming list (KEP-3157)."""

MAX_LINE: Final = 16 * 2**20
"""Bytes of one event; etcd takes requests of 1.5 MiB unless told otherwise."""

_FRUITLESS_STREAMS: Final = 5
"""Streams in a row that broke without progress before the state is listed anew; an ERROR event is no progress."""


@dataclass(frozen=True, slots=True)
class Put[T]:
    """An object was added or changed."""

    value: T


@dataclass(frozen=True, slots=True)
class Deleted[T]:
    """An object is gone or no longer matches the selector; `value` is its last state."""

    value: T


@dataclass(frozen=True, slots=True)
class Listed[T]:
    """The whole state: what is not in it is gone."""

    values: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The server ended the stream with an error (a Status); `code` is its HTTP code, EXPIRED among them."""

    code: int
    message: str


class Cursor[T]:
    """Position in the changes of one resource; `parse` gives None for objects that are to be passed over."""

    def __init__(self, parse: Callable[[Raw], T | None]) -> None:
        self._parse = parse
        self._version: str | None = None
        self._fresh: dict[tuple[str, str], T] = {}
        self._buffer = bytearray()
        self._fruitless = 0
        self._progress = 0

    @property
    def progress(self) -> int:
        """Moves with each change, bookmark and whole state: what proves that the stream is alive and understood."""
        return self._progress

    @property
    def resource_version(self) -> str | None:
        """Where to resume the watch; None while there is no whole state to resume from."""
        return self._version

    def begin(self) -> None:
        """A request is about to be made: what the last one left unfinished is worth nothing."""
        self._buffer.clear()
        self._fresh.clear()

    def restart(self) -> None:
        """Forget the position: the server no longer knows it (EXPIRED), or it cannot be trusted."""
        self._version = None
        self.begin()

    def page(self, items: Iterable[Raw]) -> None:
        """The objects of one page of a list."""
        for raw in items:
            self._collect(raw, _metadata(raw))

    def listed(self, version: str) -> Listed[T]:
        """All pages are in, or all initial events; the state is that of `version`."""
        if not version:
            raise ValueError("a list without metadata.resourceVersion")
        self._version = version
        self._progress += 1
        values = tuple(self._fresh.values())
        self._fresh.clear()
        return Listed(values)

    def dropped(self) -> None:
        """An open stream broke; after many in a row without progress the position is given up."""
        self._fruitless += 1
        if self._fruitless >= _FRUITLESS_STREAMS:
            self._fruitless = 0
            self.restart()

    def feed(self, data: bytes) -> Iterator[Put[T] | Deleted[T] | Listed[T] | Failed]:
        """Changes of the lines that `data` completes, ValueError for what is no watch stream.

        The position moves with each line that is read, so take all changes, or call `restart`.
        """
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        if len(rest) > MAX_LINE:
            raise ValueError(f"an event of more than {MAX_LINE} bytes")
        for line in lines:
            if line.strip():
                yield from self._read(line)

    def _read(self, line: bytearray) -> Iterator[Put[T] | Deleted[T] | Listed[T] | Failed]:
        document = load_json(line)
        kind, raw = (document.get("type"), document.get("object")) if isinstance(document, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(raw, dict):
            raise ValueError("a line without type and object")
        if kind == "ERROR":
            yield self._error(raw)
            return
        metadata = _metadata(raw)
        version = metadata.get("resourceVersion")
        if not isinstance(version, str) or not version:
            raise ValueError("an object without metadata.resourceVersion")
        if self._version is None:
            yield from self._initial(kind, raw, metadata, version)
        else:
            yield from self._change(kind, raw, version)

    def _error(self, status: Raw) -> Failed:
        code = status.get("code")
        failed = Failed(code if isinstance(code, int) else 0, str(status.get("message") or "no message"))
        # Whatever it is (an event that cannot be decoded, a webhook that is away), the next watch from here may meet it
        # again, and for ever.
        if failed.code != _BUSY:
            self.restart()
        return failed

    def _initial(self, kind: str, raw: Raw, metadata: Raw, version: str) -> Iterator[Listed[T]]:
        # Initial events come in the order of keys: none of them but the last is a place to resume.
        self._fruitless = 0
        if kind in ("ADDED", "MODIFIED"):
            self._collect(raw, metadata)
        elif kind == "DELETED":
            self._fresh.pop(_key(metadata), None)
        elif (metadata.get("annotations") or {}).get(INITIAL_END) == "true":
            yield self.listed(version)

    def _change(self, kind: str, raw: Raw, version: str) -> Iterator[Put[T] | Deleted[T]]:
        self._version = version
        self._fruitless = 0
        self._progress += 1
        value = self._parse(raw) if kind in ("ADDED", "MODIFIED", "DELETED") else None
        if value is not None:
            yield Deleted(value) if kind == "DELETED" else Put(value)

    def _collect(self, raw: Raw, metadata: Raw) -> None:
        value = self._parse(raw)
        if value is not None:
            self._fresh[_key(metadata)] = value


def _metadata(raw: Raw) -> Raw:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        raise ValueError("an object without metadata")
    return metadata


def _key(metadata: Raw) -> tuple[str, str]:
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
