"""Where reflectors put what they read: the store under a source's name, or a function for one object."""

import logging
from collections.abc import Callable
from typing import Any, Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.manifest import parse_object
from connector_store.domain.objects.models import Connector, ConnectorClass, Secret
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.domain.permissions.rbac import ClusterRole
from connector_store.kube.client import KubeClient
from connector_store.kube.reflector import WATCH_TIMEOUT, Reflector, Sink
from connector_store.kube.resources import Resource
from connector_store.store import Store, StoreObject

logger = logging.getLogger(__name__)

_KINDS: Final = (Secret, ConnectorClass, ClusterRole)

Consumer = tuple[Callable[[RawObject], Any], Sink[Any]]
"""A parser, which gives None for what is to be passed over, and the sink of what it makes."""


class StoreSink:
    """One source of the store; `names` is what it holds."""

    def __init__(self, store: Store, source: str) -> None:
        self._store = store
        self._source = source
        self.keys: set[ObjectKey | str] = set()

    def replace(self, objects: tuple[StoreObject, ...]) -> None:
        self.keys = {_key_of(each) for each in objects}
        self._store.replace(self._source, objects)

    def put(self, obj: StoreObject) -> None:
        self.keys.add(_key_of(obj))
        self._store.put(self._source, obj)

    def remove(self, obj: StoreObject) -> None:
        self.keys.discard(_key_of(obj))
        kind = next((each for each in _KINDS if isinstance(obj, each)), Connector)
        self._store.remove(self._source, kind, _key_of(obj))


class FanOutSink:
    """Several readers of one watch: each parses for itself, and is told of what it could parse."""

    def __init__(self, *consumers: Consumer) -> None:
        self._consumers = consumers

    def parse(self, raw: RawObject) -> tuple[Any, ...] | None:
        parts = tuple(parse(raw) for parse, _ in self._consumers)
        return parts if any(part is not None for part in parts) else None

    def replace(self, objects: tuple[tuple[Any, ...], ...]) -> None:
        for index, (_, sink) in enumerate(self._consumers):
            sink.replace(tuple(parts[index] for parts in objects if parts[index] is not None))

    def put(self, obj: tuple[Any, ...]) -> None:
        for part, (_, sink) in zip(obj, self._consumers, strict=True):
            if part is not None:
                sink.put(part)

    def remove(self, obj: tuple[Any, ...]) -> None:
        for part, (_, sink) in zip(obj, self._consumers, strict=True):
            if part is not None:
                sink.remove(part)


class ObjectSink:
    """One object by its name: `on_change` gets it, or None while there is none."""

    def __init__(self, on_change: Callable[[RawObject | None], None]) -> None:
        self._on_change = on_change

    def replace(self, objects: tuple[RawObject, ...]) -> None:
        self._on_change(objects[0] if objects else None)

    def put(self, obj: RawObject) -> None:
        self._on_change(obj)

    def remove(self, obj: RawObject) -> None:
        self._on_change(None)


def object_reflector(
    client: KubeClient,
    resource: Resource,
    key: ObjectKey,
    on_change: Callable[[RawObject | None], None],
    *,
    watch_timeout: float = WATCH_TIMEOUT,
    on_restart: Callable[[str], None] = lambda kind: None,
) -> Reflector[RawObject]:
    """Watches one object (the settings, the CA); its role needs list and watch for that name, and no get.

    An object of no namespace has the empty one in `key`.
    """
    return Reflector(
        client,
        resource,
        lambda raw: raw,
        ObjectSink(on_change),
        namespace=key.namespace or None,
        field_selector=f"metadata.name={key.name}",
        watch_timeout=watch_timeout,
        on_restart=on_restart,
    )


def make_parser(system_namespace: str) -> Callable[[RawObject], StoreObject | None]:
    """`manifest.parse_object`; None, and a line in the log, for what has no identity that we could keep it under."""

    def parse(raw: RawObject) -> StoreObject | None:
        try:
            return _validate(parse_object(raw, system_namespace=system_namespace))
        except ParseError as e:
            logger.warning("an object that the API server sent is passed over: %s", e)
            return None

    return parse


def _key_of(obj: StoreObject) -> ObjectKey | str:
    return obj.name if isinstance(obj, ConnectorClass | ClusterRole) else obj.key


def _validate[T](obj: T) -> T | Secret:
    if not isinstance(obj, Secret):
        return obj
    # Only there: the driver, which is on every node, reads no Secret and does without the 11 MB of cryptography.
    from connector_store.client_certificates import validate_secret

    return validate_secret(obj)
