"""The table of `connectorctl status`, as kubectl prints tables."""

from collections.abc import Iterator

from connector_store.domain.models import Connector, Rejected, Target, Unusable
from connector_store.store import Store

_HEAD = ("CONNECTOR", "ADDRESS", "USABLE", "REASON", "MESSAGE")
_GAP = 3


def render_status(store: Store, namespace: str | None) -> str:
    """One line for each Connector (of `namespace`), in order of name; only the heading if there are none."""
    found = sorted(store.connectors(), key=lambda each: each.key)
    rows = [_HEAD, *(_row(store, each) for each in found if namespace in (None, each.key.namespace))]
    widths = [max(len(row[column]) for row in rows) + _GAP for column in range(len(_HEAD) - 1)]
    return "".join("".join(_cells(row, widths)).rstrip() + "\n" for row in rows)


def _row(store: Store, connector: Connector | Rejected) -> tuple[str, str, str, str, str]:
    address = str(connector.address) if isinstance(connector, Connector) else "<invalid>"
    match store.get(connector.key):
        case Target():
            return str(connector.key), address, "yes", "", ""
        case Unusable() as unusable:
            return str(connector.key), address, "no", unusable.reason, unusable.message
        case None:
            message = f"class {connector.class_name} authenticates by something else than a bearer token"
            return str(connector.key), address, "no", "NotOurs", message


def _cells(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    yield from (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    yield row[-1]
