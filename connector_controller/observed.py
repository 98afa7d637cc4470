"""What the API server holds, as the controller needs it: Connectors and classes with their status, owned Services.

Registries are sinks of reflectors: they keep the last state by key, and tell which keys changed.
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
class SeenConnector:
    """A Connector and the status that we gave it, of one version. `deleting`: it waits for finalizers."""

    connector: Connector | InvalidConnector
    status: Status
    deleting: bool = False

    @property
    def key(self) -> ObjectKey:
        return self.connector.key


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenClass:
    """A ConnectorClass and its status; `version` is its resourceVersion."""

    cls: ConnectorClass
    status: Status
    version: str = field(compare=False)

    @property
    def key(self) -> str:
        return self.cls.name


def see_connector(raw: Mapping[str, Any]) -> SeenConnector | None:
    """None for what has no identity."""
    try:
        connector = parse_connector(raw)
    except ParseError as error:
        logger.warning("a Connector is passed over: %s", error)
        return None
    deleting = bool((raw.get("metadata") or {}).get("deletionTimestamp"))
    return SeenConnector(connector=connector, status=parse_status(raw), deleting=deleting)


def see_class(raw: Mapping[str, Any]) -> SeenClass | None:
    try:
        cls = parse_class(raw)
    except ParseError as error:
        logger.warning("a ConnectorClass is passed over: %s", error)
        return None
    version = str((raw.get("metadata") or {}).get("resourceVersion") or "")
    return SeenClass(cls=cls, status=parse_status(raw), version=version)


class Registry[K: Hashable, V]:
    """The last state of each object; `on_change` gets the key of every change."""

    def __init__(self, key: Callable[[V], K], on_change: Callable[[K], None]) -> None:
        self._key = key
        self._on_change = on_change
        self._held: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        return self._held.get(key)

    def __iter__(self) -> Iterator[V]:
        return iter(self._held.values())

    def replace(self, objects: tuple[V, ...]) -> None:
        fresh = {self._key(each): each for each in objects}
        gone = [key for key in self._held if key not in fresh]
        changed = [key for key, each in fresh.items() if self._held.get(key) != each]
        self._held = fresh
        for key in gone + changed:
            self._on_change(key)

    def put(self, obj: V) -> None:
        key = self._key(obj)
        changed = self._held.get(key) != obj
        # Also one that is equal: it has the version that the next write needs.
        self._held[key] = obj
        if changed:
            self._on_change(key)

    def remove(self, obj: V) -> None:
        key = self._key(obj)
        if self._held.pop(key, None) is not None:
            self._on_change(key)
