"""The list-and-watch protocol without I/O. It turns bytes of a watch stream into changes, and tracks the position.

    cursor = WatchCursor(parse)
    cursor.resource_version     None: a full list is needed, or a watch with initial events
    cursor.feed(b'{"type": "ADDED", "object": {...}}\n')   -> Upserted(parse({...}))
    cursor.start_request()      call it before each list and each watch request

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.base.json_document import load_json

RawObject = Mapping[str, Any]

EXPIRED: Final = 410
"""HTTP status, and Status.code of an ERROR event, for a resourceVersion that is too old."""

_TOO_MANY_REQUESTS: Final = 429
"""Code of the only ERROR event after which the position stays valid, as in client-go's reflector."""

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark after the initial events of a streaming list (KEP-3157)."""

MAX_EVENT: Final = 16 * 2**20
"""Maximum bytes of one event. By default, etcd accepts requests of up to 1.5 MiB."""

_MAX_FRUITLESS_STREAMS: Final = 5
"""Streams that may break in a row without progress before a new list. An ERROR event is not progress."""


class PositionLostError(Exception):
    """The position is not one of the server's history, or may not be. A full list is needed."""


class HistoryRewoundError(PositionLostError):
    """The server has an older state than the one that was seen: its data was restored from a snapshot."""

    def __init__(self, version: str, previous_version: str) -> None:
        super().__init__(
            f"the API server went back from version {previous_version} to {version}, as after a restore of etcd; "
            "listing again"
        )


@dataclass(frozen=True, slots=True)
class LastChange:
    """The newest object of a collection that was seen, with its version. `exists` is False if it was deleted."""

    namespace: str
    name: str
    version: str
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Upserted[T]:
    """An object was added or changed."""

    value: T


@dataclass(frozen=True, slots=True)
class Deleted[T]:
    """An object was deleted, or no longer matches the selector. `value` is its last state."""

    value: T


@dataclass(frozen=True, slots=True)
class Listed[T]:
    """A full list. Objects that are not in it no longer exist."""

    values: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class WatchError:
    """An ERROR event (a Status), which ends the stream. `code` is its HTTP code, for example EXPIRED."""

    code: int
    message: str


class WatchCursor[T]:
    """Position in the changes of one resource. Objects for which `parse` returns None are skipped."""

    def __init__(self, parse: Callable[[RawObject], T | None]) -> None:
        self._parse = parse
        self._resource_version: str | None = None
        self._listed_values: dict[tuple[str, str], T] = {}
        self._buffer = bytearray()
        self._fruitless_stream_count = 0
        self._progress_count = 0
        self._last_change: LastChange | None = None

    @property
    def last_change(self) -> LastChange | None:
        """Change to compare with the server's state before a watch is resumed. None before the first one."""
        return self._last_change

    @property
    def progress_count(self) -> int:
        """Number of changes, bookmarks and full lists. It grows while the stream works."""
        return self._progress_count

    @property
    def resource_version(self) -> str | None:
        """Version from which to resume the watch, or None before the first full list."""
        return self._resource_version

    def start_request(self) -> None:
        """Discard the incomplete data of the previous request. Call it before each request."""
        self._buffer.clear()
        self._listed_values.clear()

    def restart(self) -> None:
        """Discard the position, because it is too old (EXPIRED) or cannot be trusted."""
        self._resource_version = None
        self._last_change = None
        self.start_request()

    def add_page(self, items: Iterable[RawObject]) -> None:
        """Add the objects of one page of a list."""
        for raw in items:
            self._collect(raw, _metadata(raw))

    def finish_list(self, resource_version: str) -> Listed[T]:
        """Complete the list after its last page or initial event. `resource_version` is the list's version."""
        if not resource_version:
            raise ValueError("a list without metadata.resourceVersion")
        self._resource_version = resource_version
        self._progress_count += 1
        values = tuple(self._listed_values.values())
        self._listed_values.clear()
        return Listed(values)

    def check_version(self, version: str) -> None:
        """Raise HistoryRewoundError if a version that the server has now is older than the position.

        A watch from a version that the server has not reached yet is silent.
        """
        if self._resource_version is not None and is_older(version, self._resource_version):
            raise self._rewind(version, self._resource_version)

    def check_last_change(self, items: Iterable[RawObject]) -> None:
        """Compare the server's current state of `last_change`, no or one object, with the one that was seen.

        A restored server may have passed the position again. It does not send what the restore itself changed. Raise
        HistoryRewoundError if its object is older, and PositionLostError if it has none.
        """
        last = self._last_change
        if last is None:
            return
        version = next((str(_metadata(raw).get("resourceVersion") or "") for raw in items), None)
        if version is not None and is_older(version, last.version):
            raise self._rewind(version, last.version)
        if version is None and last.exists:
            self.restart()
            raise PositionLostError("the object that changed last is gone; listing again")

    def _rewind(self, version: str, previous_version: str) -> HistoryRewoundError:
        self.restart()
        return HistoryRewoundError(version, previous_version)

    def count_broken_stream(self) -> None:
        """Count a stream that broke. Discard the position after too many in a row without progress."""
        self._fruitless_stream_count += 1
        if self._fruitless_stream_count >= _MAX_FRUITLESS_STREAMS:
            self._fruitless_stream_count = 0
            self.restart()

    def feed(self, data: bytes) -> Iterator[Upserted[T] | Deleted[T] | Listed[T] | WatchError]:
        """Yield the changes in the lines that `data` completes. Raise ValueError if it is not a watch stream.

        Raise HistoryRewoundError if an event is older than the position. The position moves with each line, so consume
        all changes, or call `restart`.
        """
        self._buffer += data
        *lines, incomplete_line = self._buffer.split(b"\n")
        self._buffer = incomplete_line
        if len(incomplete_line) > MAX_EVENT:
            raise ValueError(f"an event of more than {MAX_EVENT} bytes")
        for line in lines:
            if line.strip():
                yield from self._read_event(line)

    def _read_event(self, line: bytearray) -> Iterator[Upserted[T] | Deleted[T] | Listed[T] | WatchError]:
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
        # Whatever the error is (an event that cannot be decoded, a webhook that is down), a watch from the same
        # position could fail with it again and again.
        if error.code != _TOO_MANY_REQUESTS:
            self.restart()
        return error

    def _read_initial_event(self, kind: str, raw: RawObject, metadata: RawObject, version: str) -> Iterator[Listed[T]]:
        # The server sends initial events in the order of keys, so a watch can resume only after the last one.
        self._fruitless_stream_count = 0
        if kind in ("ADDED", "MODIFIED"):
            self._collect(raw, metadata)
        elif kind == "DELETED":
            self._listed_values.pop(_key(metadata), None)
        elif (metadata.get("annotations") or {}).get(INITIAL_EVENTS_END) == "true":
            yield self.finish_list(version)

    def _read_change(self, kind: str, raw: RawObject, version: str) -> Iterator[Upserted[T] | Deleted[T]]:
        self.check_version(version)
        self._resource_version = version
        self._fruitless_stream_count = 0
        self._progress_count += 1
        is_change = kind in ("ADDED", "MODIFIED", "DELETED")
        if is_change:
            self._last_change = LastChange(*_key(_metadata(raw)), version, exists=kind != "DELETED")
        value = self._parse(raw) if is_change else None
        if value is not None:
            yield Deleted(value) if kind == "DELETED" else Upserted(value)

    def _collect(self, raw: RawObject, metadata: RawObject) -> None:
        version = str(metadata.get("resourceVersion") or "")
        if self._last_change is None or is_older(self._last_change.version, version):
            self._last_change = LastChange(*_key(metadata), version)
        value = self._parse(raw)
        if value is not None:
            self._listed_values[_key(metadata)] = value


def is_older(version: str, other: str) -> bool:
    """Compare two versions of one cluster, which are decimal numbers (KEP-5504). Other text has no order: False."""
    if not (version.isascii() and version.isdecimal() and other.isascii() and other.isdecimal()):
        return False
    return (len(version), version) < (len(other), other)


def _metadata(raw: RawObject) -> RawObject:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        raise ValueError("an object without metadata")
    return metadata


def _key(metadata: RawObject) -> tuple[str, str]:
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
