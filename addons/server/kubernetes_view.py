"""Content view of mitmproxy for Kubernetes objects: an object as YAML, a list as a table, a watch as its events."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml
from mitmproxy import contentviews

from connector_store.domain.base.printable import printable

MAX_CELL: Final = 60
"""Maximum number of characters of a cell in a table."""


class KubernetesView(contentviews.Contentview):
    """View that mitmproxy selects for JSON with an apiVersion and a kind, and for the JSON lines of a watch."""

    name = "Kubernetes"
    syntax_highlight = "yaml"

    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        """Return the text. Raise ValueError if `data` is not JSON, for example because the flow keeps only a part."""
        events = parse_events(data)
        if events is not None:
            return render_events(events)
        document = json.loads(data)
        if not is_object(document):
            raise ValueError("not a Kubernetes object")
        if document["kind"] == "Table":
            return render_table(document)
        if isinstance(document.get("items"), list):
            return render_list(document)
        return render_yaml(document)

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        media_type = metadata.content_type or ""
        is_json = media_type.partition(";")[0].strip() == "application/json"
        return 2 if is_json and b'"kind"' in data and b'"apiVersion"' in data else -1


def is_object(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("kind"), str) and "apiVersion" in document


def parse_events(data: bytes) -> list[dict[str, Any]] | None:
    """Parse the lines of a watch, without an incomplete last line. Return None if the first line is not an event."""
    events: list[dict[str, Any]] = []
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            break
        if not isinstance(event, dict) or set(event) != {"type", "object"}:
            return None
        events.append(event)
    return events or None


def render_events(events: Iterable[dict[str, Any]]) -> str:
    rows: list[tuple[str, ...]] = [("TYPE", "KIND", "NAMESPACE", "NAME", "VERSION")]
    for event in events:
        document = event["object"] if isinstance(event["object"], dict) else {}
        metadata = _metadata(document)
        cells = (event["type"], document.get("kind"), *(metadata.get(key) for key in _IDENTITY), _version(metadata))
        rows.append(_row(cells))
    return _align(rows)


def render_table(document: dict[str, Any]) -> str:
    """Render a Table (meta.k8s.io/v1), which kubectl requests for `get`."""
    rows = [_row(_get(column, "name", "").upper() for column in _list(document, "columnDefinitions"))]
    rows += [_row(_list(row, "cells")) for row in _list(document, "rows")]
    return _align(rows)


def render_list(document: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("NAMESPACE", "NAME", "CREATED", "VERSION")]
    for metadata in map(_metadata, document["items"]):
        identity = (metadata.get(key) for key in _IDENTITY)
        rows.append(_row((*identity, metadata.get("creationTimestamp"), _version(metadata))))
    return f"# {printable(document['kind'])}, {len(document['items'])} items\n{_align(rows)}"


def render_yaml(document: dict[str, Any]) -> str:
    """Render an object as YAML without its managedFields."""
    metadata = _metadata(document)
    shown = document | {"metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
    text: str = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=200)
    return "\n".join(map(printable, text.split("\n")))


_IDENTITY: Final = ("namespace", "name")


def _metadata(document: Any) -> dict[str, Any]:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _version(metadata: dict[str, Any]) -> Any:
    return metadata.get("resourceVersion")


def _list(value: Any, key: str) -> list[Any]:
    items = value.get(key) if isinstance(value, dict) else None
    return items if isinstance(items, list) else []


def _get(value: Any, key: str, default: str) -> str:
    return str(value.get(key, default)) if isinstance(value, dict) else default


def _row(cells: Iterable[Any]) -> tuple[str, ...]:
    return tuple("" if cell is None else printable(str(cell))[:MAX_CELL] for cell in cells)


def _align(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows with columns of equal width, one row a line."""
    columns = max(map(len, rows))
    widths = [max((len(row[index]) for row in rows if index < len(row)), default=0) for index in range(columns)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"
