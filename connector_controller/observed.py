"""Caches of objects from the API server: Connectors and classes with their status, and alias Services.

The caches are sinks of reflectors. They keep the last state by key, and report which keys changed.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.manifest_class import parse_class
from connector_store.domain.objects.models import Connector, ConnectorClass, InvalidConnector
from connector_store.domain.status.status import Status, parse_status

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedConnector:
    """Connector and its status in one version. `is_deleting` is True while it waits for finalizers."""

    connector: Connector | InvalidConnector
    status: Status
    is_deleting: bool = False

    @property
    def key(self) -> ObjectKey:
        return self.connector.key


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedClass:
    """ConnectorClass and its status."""

    cls: ConnectorClass
    status: Status
    resource_version: str = field(compare=False)

    @property
    def key(self) -> str:
        return self.cls.name


def parse_observed_connector(raw: Mapping[str, Any]) -> ObservedConnector | None:
    """Return None for an object without an identity."""
    try:
        connector = parse_connector(raw)
    except ParseError as error:
        logger.warning("skipped a Connector: %s", error)
        return None
    is_deleting = bool((raw.get("metadata") or {}).get("deletionTimestamp"))
    return ObservedConnector(connector=connector, status=parse_status(raw), is_deleting=is_deleting)


def parse_observed_class(raw: Mapping[str, Any]) -> ObservedClass | None:
    try:
        cls = parse_class(raw)
    except ParseError as error:
        logger.warning("skipped a ConnectorClass: %s", error)
        return None
    resource_version = str((raw.get("metadata") or {}).get("resourceVersion") or "")
    return ObservedClass(cls=cls, status=parse_status(raw), resource_version=resource_version)


class ObjectCache[K: Hashable, V]:
    """Last state of each object. `on_change` gets the key of every change."""

    def __init__(self, key_of: Callable[[V], K], on_change: Callable[[K], None]) -> None:
        self._key_of = key_of
        self._on_change = on_change
        self._objects: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        return self._objects.get(key)

    def __iter__(self) -> Iterator[V]:
        return iter(self._objects.values())

    def replace(self, objects: tuple[V, ...]) -> None:
        current = {self._key_of(each): each for each in objects}
        removed = [key for key in self._objects if key not in current]
        changed = [key for key, each in current.items() if self._objects.get(key) != each]
        self._objects = current
        for key in removed + changed:
            self._on_change(key)

    def put(self, obj: V) -> None:
        key = self._key_of(obj)
        changed = self._objects.get(key) != obj
        # Store an equal object, too: the next write needs its resourceVersion.
        self._objects[key] = obj
        if changed:
            self._on_change(key)

    def remove(self, obj: V) -> None:
        key = self._key_of(obj)
        if self._objects.pop(key, None) is not None:
            self._on_change(key)
