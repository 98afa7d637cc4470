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

from connector_store.domain.base.json_document import load_json

RawObject = Mapping[str, Any]

EXPIRED: Final = 410
"""HTTP status, and Status.code of an ERROR event, of a resourceVersion that the server no longer knows."""

_TOO_MANY_REQUESTS: Final = 429
"""The one ERROR event that says nothing about the position, as client-go's reflector has it."""

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a streaming list (KEP-3157)."""

MAX_EVENT: Final = 16 * 2**20
"""Bytes of one event; etcd takes requests of 1.5 MiB unless told otherwise."""

_MAX_FRUITLESS_STREAMS: Final = 5
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
class WatchError:
    """The server ended the stream with an error (a Status); `code` is its HTTP code, EXPIRED among them."""

    code: int
    message: str


class WatchCursor[T]:
    """Position in the changes of one resource; `parse` gives None for objects that are to be passed over."""

    def __init__(self, parse: Callable[[RawObject], T | None]) -> None:
        self._parse = parse
        self._resource_version: str | None = None
        self._listed_values: dict[tuple[str, str], T] = {}
        self._buffer = bytearray()
        self._fruitless_stream_count = 0
        self._progress_count = 0

    @property
    def progress_count(self) -> int:
        """Moves with each change, bookmark and whole state: what proves that the stream is alive and understood."""
        return self._progress_count

    @property
    def resource_version(self) -> str | None:
        """Where to resume the watch; None while there is no whole state to resume from."""
        return self._resource_version

    def start_request(self) -> None:
        """A request is about to be made: what the last one left unfinished is worth nothing."""
        self._buffer.clear()
        self._listed_values.clear()

    def restart(self) -> None:
        """Forget the position: the server no longer knows it (EXPIRED), or it cannot be trusted."""
        self._resource_version = None
        self.start_request()

    def add_page(self, items: Iterable[RawObject]) -> None:
        """The objects of one page of a list."""
        for raw in items:
            self._collect(raw, _metadata(raw))

    def finish_list(self, resource_version: str) -> Listed[T]:
        """All pages are in, or all initial events; the state is that of `version`."""
        if not resource_version:
            raise ValueError("a list without metadata.resourceVersion")
        self._resource_version = resource_version
        self._progress_count += 1
        values = tuple(self._listed_values.values())
        self._listed_values.clear()
        return Listed(values)

    def count_broken_stream(self) -> None:
        """An open stream broke; after many in a row without progress the position is given up."""
        self._fruitless_stream_count += 1
        if self._fruitless_stream_count >= _MAX_FRUITLESS_STREAMS:
            self._fruitless_stream_count = 0
            self.restart()

    def feed(self, data: bytes) -> Iterator[Put[T] | Deleted[T] | Listed[T] | WatchError]:
        """Changes of the lines that `data` completes, ValueError for what is no watch stream.

        The position moves with each line that is read, so take all changes, or call `restart`.
        """
        self._buffer += data
        *lines, incomplete_line = self._buffer.split(b"\n")
        self._buffer = incomplete_line
        if len(incomplete_line) > MAX_EVENT:
            raise ValueError(f"an event of more than {MAX_EVENT} bytes")
        for line in lines:
            if line.strip():
                yield from self._read_event(line)

    def _read_event(self, line: bytearray) -> Iterator[Put[T] | Deleted[T] | Listed[T] | WatchError]:
        document = load_json(line)
        kind, raw = (document.get("type"), document.get("object")) if isinstance(document, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(raw, dict):
            raise ValueError("a line without type and object")
        if kind == "ERROR":
            yield self._read_error(raw)
            return
        metadata = _metadata(raw)
        version = metadata.get("resourceVersion")
        if not isinstance(version, str) or not version:
            raise ValueError("an object without metadata.resourceVersion")
        if self._resource_version is None:
            yield from self._read_initial_event(kind, raw, metadata, version)
        else:
            yield from self._read_change(kind, raw, version)

    def _read_error(self, status: RawObject) -> WatchError:
        code = status.get("code")
        error = WatchError(code if isinstance(code, int) else 0, str(status.get("message") or "no message"))
        # Whatever it is (an event that cannot be decoded, a webhook that is away), the next watch from here may meet it
        # again, and for ever.
        if error.code != _TOO_MANY_REQUESTS:
            self.restart()
        return error

    def _read_initial_event(self, kind: str, raw: RawObject, metadata: RawObject, version: str) -> Iterator[Listed[T]]:
        # Initial events come in the order of keys: none of them but the last is a place to resume.
        self._fruitless_stream_count = 0
        if kind in ("ADDED", "MODIFIED"):
            self._collect(raw, metadata)
        elif kind == "DELETED":
            self._listed_values.pop(_key(metadata), None)
        elif (metadata.get("annotations") or {}).get(INITIAL_EVENTS_END) == "true":
            yield self.finish_list(version)

    def _read_change(self, kind: str, raw: RawObject, version: str) -> Iterator[Put[T] | Deleted[T]]:
        self._resource_version = version
        self._fruitless_stream_count = 0
        self._progress_count += 1
        value = self._parse(raw) if kind in ("ADDED", "MODIFIED", "DELETED") else None
        if value is not None:
            yield Deleted(value) if kind == "DELETED" else Put(value)

    def _collect(self, raw: RawObject, metadata: RawObject) -> None:
        value = self._parse(raw)
        if value is not None:
            self._listed_values[_key(metadata)] = value


def _metadata(raw: RawObject) -> RawObject:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        raise ValueError("an object without metadata")
    return metadata


def _key(metadata: RawObject) -> tuple[str, str]:
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
