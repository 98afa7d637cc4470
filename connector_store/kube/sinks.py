"""Sinks of reflectors: the store under a source's name, or a function for one object."""

import logging
from collections.abc import Callable, Set
from typing import Any

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.manifest import parse_object
from connector_store.domain.objects.models import Secret
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.reflector import WATCH_TIMEOUT, Reflector, Sink
from connector_store.kube.resources import Resource
from connector_store.store import ObjectIdentity, Store, StoreObject, identify

logger = logging.getLogger(__name__)

Consumer = tuple[Callable[[RawObject], Any], Sink[Any]]
"""Parser, which returns None for objects to skip, and the sink for its results."""


class StoreSink:
    """Sink for one source of the store."""

    def __init__(self, store: Store, source: str) -> None:
        self._store = store
        self._source = source

    @property
    def identities(self) -> Set[ObjectIdentity]:
        return self._store.identities(self._source)

    def replace(self, objects: tuple[StoreObject, ...]) -> None:
        self._store.replace(self._source, objects)

    def put(self, obj: StoreObject) -> None:
        self._store.put(self._source, obj)

    def remove(self, obj: StoreObject) -> None:
        self._store.remove(self._source, *identify(obj))


class FanOutSink:
    """Several consumers of one watch. Each parses the objects itself and gets those that it can parse."""

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
    """Sink for a single object. `on_change` gets the object, or None if it does not exist."""

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
    """Create a reflector of one object. Its role needs list and watch for that name, and not get.

    A cluster-scoped object has an empty namespace in `key`.
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
    """Return a `parse_object` that logs objects without an identity and returns None for them."""

    def parse(raw: RawObject) -> StoreObject | None:
        try:
            return _validate(parse_object(raw, system_namespace=system_namespace))
        except ParseError as e:
            logger.warning("skipped an object of the API server: %s", e)
            return None

    return parse


def _validate[T](obj: T) -> T | Secret:
    if not isinstance(obj, Secret):
        return obj
    # Import it only here. The CSI driver runs on each node, reads no Secret, and saves the 11 MB of cryptography.
    from connector_store.client_certificates import validate_secret

    return validate_secret(obj)
