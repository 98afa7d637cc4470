"""AccessLocks in force, as data, as rows of a table and as lines."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from connector_store.domain.base.label_selector import ObjectSelector
from connector_store.domain.base.rfc3339 import format_unix_time
from connector_store.domain.grants.locks import applies_to
from connector_store.domain.objects.access_objects import AccessLock
from connector_store.domain.objects.models import Connector
from connector_store.store import Store

LOCK_HEADER: Final = ("LOCK", "CALLERS", "CONNECTORS", "UNTIL", "REASON")
_LAST_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""Last second that `datetime` can hold in UTC. A time with another zone can be later."""


def describe_locks(store: Store, namespace: str | None) -> list[dict[str, Any]]:
    """Return the locks in force of a namespace (None: all) and of the system namespace, as data."""
    system_namespace = store.access.system_namespace
    return [
        _describe_lock(lock, system_namespace)
        for lock in store.access.current_locks()
        if namespace is None or lock.key.namespace in (namespace, system_namespace)
    ]


def describe_locks_of(store: Store, connector: Connector) -> list[dict[str, Any]]:
    """Return the locks in force for a Connector, as data."""
    system_namespace = store.access.system_namespace
    return [
        _describe_lock(lock, system_namespace)
        for lock in store.access.current_locks()
        if applies_to(lock, connector, system_namespace)
    ]


def lock_cells(lock: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells for LOCK_HEADER."""
    return (
        f"{lock['namespace']}/{lock['name']}",
        ", ".join([*lock["users"], *(f"group {group}" for group in lock["groups"])]) or "all callers",
        lock["connectors"],
        lock["until"] or "",
        lock["reason"],
    )


def _describe_lock(lock: AccessLock, system_namespace: str) -> dict[str, Any]:
    """Return a lock as data. Without users and groups, it is for all callers."""
    scope = "all namespaces" if lock.key.namespace == system_namespace else lock.key.namespace
    return {
        "namespace": lock.key.namespace,
        "name": lock.key.name,
        "users": sorted(lock.users),
        "groups": sorted(lock.groups),
        "connectors": f"{', '.join(_selections(lock)) or 'all'} in {scope}",
        "until": format_unix_time(min(lock.until, _LAST_TIME)) if lock.until is not None else None,
        "reason": f"for all, because the lock has an error: {lock.problem}" if lock.problem else lock.reason,
    }


def _selections(lock: AccessLock) -> Iterator[str]:
    """Yield what a Connector must match. All of them must match."""
    yield from _names("", lock.connector.names)
    yield from _label_selections(lock.connector)
    yield from _names("Secret ", lock.secret_names)
    yield from _names("address ", lock.addresses)


def _names(label: str, names: frozenset[str]) -> Iterator[str]:
    if names:
        yield label + " or ".join(sorted(names))


def _label_selections(selector: ObjectSelector) -> Iterator[str]:
    yield from (f"label {key}={value}" for key, value in selector.labels)
    for requirement in selector.requirements:
        yield " ".join(["label", requirement.key, requirement.operator, *sorted(requirement.values)])
