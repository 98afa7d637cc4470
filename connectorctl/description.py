"""Description of one Connector: everything that a user asks about it, as plain data and as a text."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from connector_store.domain.base import rfc3339
from connector_store.domain.base.expiry import format_relative_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.printable import printable
from connector_store.domain.objects.models import Connector
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.status.status import Condition
from connectorctl.inventory import Inventory, build_rows, not_found_error, row_document
from connectorctl.lock_rows import describe_locks_of, lock_cells
from connectorctl.table import STATUS_COLOURS, style_cell

LABEL_WIDTH: Final = 14
_GAP: Final = "  "
_STATUS_LABELS: Final = ("Usable", "Conditions")
"""Labels of lines with a coloured word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorDetails:
    """Facts of a source about one Connector.

    `callers` names the subjects that may use it, or says why they cannot be listed. `events` are newest first.
    """

    inventory: Inventory
    callers: Sequence[str]
    kubeconfig_command: str
    conditions: Sequence[Condition] = ()
    events: Sequence[Mapping[str, str]] = ()


def build_description(details: ConnectorDetails, key: ObjectKey) -> dict[str, Any]:
    """Return the description as plain data. Raises ParseError if the Connector does not exist."""
    connector = details.inventory.store.connector(key)
    if connector is None:
        raise not_found_error(details.inventory.store, key)
    [row] = [row for row in build_rows(details.inventory, key.namespace) if row.connector == key]
    locks = describe_locks_of(details.inventory.store, connector) if isinstance(connector, Connector) else []
    return {
        **row_document(row),
        **(_describe_spec(connector) if isinstance(connector, Connector) else {}),
        "callers": list(details.callers),
        **({"locks": locks} if locks else {}),
        "conditions": [_describe_condition(condition) for condition in details.conditions],
        "events": [dict(event) for event in details.events],
        "kubeconfig": details.kubeconfig_command,
    }


def _describe_spec(connector: Connector) -> dict[str, Any]:
    permissions = connector.permissions or Permissions(allow=None)
    limits = asdict(connector.limits) if connector.limits is not None else {}
    return {
        "class": connector.class_name,
        "secret": connector.secret_name,
        "permissions": {
            "allow": _describe_entries(permissions.allow) if permissions.allow is not None else None,
            "deny": _describe_entries(permissions.deny),
            "onRequest": _describe_entries(permissions.on_request),
            "mask": ["secrets"] if permissions.restrictions.masks_secrets else [],
            "dryRun": permissions.restrictions.dry_run,
        },
        "limits": {name: value for name, value in limits.items() if value is not None},
    }


def _describe_entries(entries: Sequence[RoleEntry]) -> list[dict[str, Any]]:
    return [
        {"clusterRole": entry.cluster_role, "namespaces": sorted(entry.namespaces) if entry.namespaces else None}
        for entry in entries
    ]


def _describe_condition(condition: Condition) -> dict[str, str]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
    }


def render_description(description: Mapping[str, Any]) -> str:
    """Render a description as `LABEL: VALUE` lines."""
    return "".join(
        f"{f'{label}:' if index == 0 else '':{LABEL_WIDTH}}{_style_line(label, printable(line))}\n"
        for label, lines in _sections(description)
        for index, line in enumerate(lines or ["none"])
    )


def _style_line(label: str, line: str) -> str:
    if label not in _STATUS_LABELS:
        return line
    return _GAP.join(style_cell(cell, STATUS_COLOURS) for cell in line.split(_GAP))


def _sections(description: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    reason = ": ".join(filter(None, (description["reason"], description["message"])))
    yield "Connector", [f"{description['namespace']}/{description['name']}"]
    yield "Usable", ["yes" if description["usable"] else "no", *([reason] if reason else [])]
    if "class" in description:
        yield from _spec_sections(description)
    expires = rfc3339.parse_time(description["expires"])
    yield (
        "Credential",
        ["no known expiry" if expires is None else f"expires {format_relative_time(expires - time.time())}"],
    )
    yield "Callers", description["callers"]
    if "locks" in description:
        yield "Locks", [_lock_line(lock) for lock in description["locks"]]
    if description["conditions"]:
        yield "Conditions", [_join(each, "type", "status", "reason", "message") for each in description["conditions"]]
    if description["events"]:
        yield "Events", [_join(each, "time", "type", "reason", "message") for each in description["events"]]
    yield "Kubeconfig", [description["kubeconfig"]]


def _spec_sections(description: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    permissions = description["permissions"]
    allow = permissions["allow"]
    yield "Address", [description["address"]]
    yield "Class", [description["class"]]
    yield "Auth", [" from Secret ".join(filter(None, (description["auth"], description["secret"])))]
    yield "Impersonates", ["the caller" if description["impersonates"] else "no"]
    yield "Allows", ["everything that the credential can do"] if allow is None else list(map(_entry_line, allow))
    yield "Denies", list(map(_entry_line, permissions["deny"]))
    yield "On request", list(map(_entry_line, permissions["onRequest"]))
    yield "Masks", permissions["mask"]
    yield "Dry run", ["each write changes nothing" if permissions["dryRun"] else "no"]
    yield "Limits", [f"{name.replace('_', ' ')}: {value}" for name, value in description["limits"].items()]


def _entry_line(entry: Mapping[str, Any]) -> str:
    namespaces = entry["namespaces"]
    scope = f"in namespaces {', '.join(namespaces)}" if namespaces else "in all namespaces"
    return f"ClusterRole {entry['clusterRole']} {scope}"


def _lock_line(lock: Mapping[str, Any]) -> str:
    key, callers, _, until, reason = lock_cells(lock)
    return _GAP.join([key, callers, *([f"until {until}"] if until else []), reason])


def _join(values: Mapping[str, str], *names: str) -> str:
    return _GAP.join(values[name] for name in names if values[name])
