"""The shelf: an in-memory index of parsed objects, joined into what the data path needs.

Several sources (reflectors, a folder) feed it; each owns what it put, and an object is there as long as one source
has it. `get` is a dictionary lookup: the join is made once after each change, when first asked for. Not thread-safe:
every call is made on one event loop.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import Connector, ConnectorClass, InvalidConnector, Secret, Target, Unusable
from connector_store.domain.objects.resolve import resolve
from connector_store.domain.permissions.bindings import Binding, Bindings, Role
from connector_store.domain.permissions.rbac import ClusterRole
from connector_store.domain.status.serving import NotServed, namespace_not_configured

StoreObject = Connector | InvalidConnector | Secret | ConnectorClass | ClusterRole | Role | Binding
Subscriber = Callable[[frozenset[ObjectKey]], None]

ObjectIdentity = tuple[type, ObjectKey | str]

_BUILTIN_SOURCE: Final = "builtin"


class Store:
    """Connectors, Secrets, ConnectorClasses and what RBAC knows, by source; see the module's text."""

    def __init__(self, *, expected: Iterable[str] = ()) -> None:
        """`expected` names the sources whose first list must be in before the store is synced."""
        self._sources: dict[str, dict[ObjectIdentity, StoreObject]] = {
            _BUILTIN_SOURCE: {(ConnectorClass, K8S.name): K8S}
        }
        self._connectors: dict[ObjectKey, Connector | InvalidConnector] = {}
        self._secrets: dict[ObjectKey, Secret] = {}
        self._classes: dict[str, ConnectorClass] = {K8S.name: K8S}
        self._roles: dict[str, ClusterRole] = {}
        self._rbac_objects: dict[ObjectIdentity, Role | Binding] = {}
        self._bindings: Bindings | None = None
        self._dependents: dict[ObjectKey | ObjectIdentity, set[ObjectKey]] = {}
        """The Connectors that name a Secret, or an object of cluster scope."""
        self._resolved = _ResolutionCache(self._resolve)
        self.get: Final[Callable[[ObjectKey], Target | Unusable | None]] = self._resolved.__getitem__
        """What the Connector of a key is good for; None if there is none of ours.

        What is withheld is Unusable whether it is there or not: ask only for callers who may use that key.
        """
        self._shared_ca_file: bytes | None = None
        self._shared_secrets: dict[ObjectKey, bytes] = {}
        self._subscribers: list[Subscriber] = []
        self.unsynced_sources = set(expected)
        """Sources that have not listed yet."""
        self._served_namespaces: frozenset[str] | None = None
        self._not_served: dict[str | None, NotServed] = {}

    def connector(self, key: ObjectKey) -> Connector | InvalidConnector | None:
        return self._connectors.get(key)

    def connectors(self) -> Iterator[Connector | InvalidConnector]:
        return iter(self._connectors.values())

    def secret(self, key: ObjectKey) -> Secret | None:
        return self._secrets.get(key)

    def connector_class(self, name: str) -> ConnectorClass | None:
        return self._classes.get(name)

    def cluster_role(self, name: str) -> ClusterRole | None:
        return self._roles.get(name)

    @property
    def bindings(self) -> Bindings:
        """Roles and bindings of a folder, compiled once after each change."""
        if self._bindings is None:
            self._bindings = Bindings(
                cluster_roles=self._roles.values(),
                roles=(each for each in self._rbac_objects.values() if isinstance(each, Role)),
                bindings=(each for each in self._rbac_objects.values() if isinstance(each, Binding)),
            )
        return self._bindings

    @property
    def object_counts(self) -> Mapping[str, int]:
        """Number of objects by kind, for the metric connector_store_objects."""
        return {
            "Connector": len(self._connectors),
            "Secret": len(self._secrets),
            "ConnectorClass": len(self._classes),
            "ClusterRole": len(self._roles),
        }

    @property
    def shared_ca(self) -> bytes | None:
        """PEM of the CAs for Connectors that name none (labelled Secrets, then the file); None if there are none."""
        parts = [self._shared_secrets[key] for key in sorted(self._shared_secrets)]
        if self._shared_ca_file is not None:
            parts.append(self._shared_ca_file)
        return b"\n".join(parts) if parts else None

    @property
    def synced(self) -> bool:
        """True once every expected source has listed."""
        return not self.unsynced_sources

    def replace(self, source: str, objects: Iterable[StoreObject]) -> None:
        """Take `objects` for all that `source` has (a list), and count the source as synced."""
        new_objects = {identify(each): each for each in objects}
        old_objects = self._sources.setdefault(source, {})
        changed_keys: set[ObjectKey] = set()
        for identity in [each for each in old_objects if each not in new_objects]:
            changed_keys |= self._drop(source, identity)
        for identity, each in new_objects.items():
            if old_objects.get(identity) != each or isinstance(each, Secret):
                changed_keys |= self._set(source, identity, each)
        self.unsynced_sources.discard(source)
        self._notify(changed_keys)

    def put(self, source: str, obj: StoreObject) -> None:
        """One object of `source` was added or modified; nobody is told of one that means what it meant."""
        identity = identify(obj)
        previous = self._sources.get(source, {}).get(identity)
        if previous != obj or self._current_object(identity) != obj or isinstance(obj, Secret):
            self._notify(self._set(source, identity, obj))

    def remove(self, source: str, kind: type, name: ObjectKey | str) -> None:
        """One object of `source` was deleted; `kind` is Connector, Secret, ConnectorClass or ClusterRole."""
        if (kind, name) in self._sources.get(source, {}):
            self._notify(self._drop(source, (kind, name)))

    def remove_source(self, source: str) -> None:
        """The source is gone (a named watch that nobody needs), and with it what only it had."""
        changed_keys: set[ObjectKey] = set()
        for identity in list(self._sources.get(source, {})):
            changed_keys |= self._drop(source, identity)
        self._sources.pop(source, None)
        self.unsynced_sources.discard(source)
        self._notify(changed_keys)

    def expect(self, source: str) -> None:
        """Not synced until `source` has listed."""
        self.unsynced_sources.add(source)

    def stop_expecting(self, source: str) -> None:
        """Do not wait for `source` any more: it cannot be read."""
        self.unsynced_sources.discard(source)

    @property
    def not_served(self) -> Mapping[str | None, NotServed]:
        """Namespaces that cannot be served at the moment, and why; None stands for all."""
        return self._not_served

    def not_served_reason(self, namespace: str) -> NotServed | None:
        """Why no Connector of that namespace can be used; None if they can."""
        if not self.serves(namespace):
            return namespace_not_configured(namespace)
        return self._not_served.get(namespace) or self._not_served.get(None)

    def serves(self, namespace: str) -> bool:
        """Whether it is one of those of `serve_only`."""
        return self._served_namespaces is None or namespace in self._served_namespaces

    def serve_only(self, namespaces: Iterable[str] | None) -> None:
        """None: Connectors of all namespaces are served."""
        self._served_namespaces = None if namespaces is None else frozenset(namespaces)
        self._resolved.clear()

    def set_not_served(self, namespace: str | None, not_served: NotServed | None) -> None:
        """Serve Connectors of the namespace, or of all, no more; or, without a reason, again."""
        if self._not_served.get(namespace) == not_served:
            return
        _set_or_pop(self._not_served, namespace, not_served)
        self._resolved.clear()
        if not_served is None or not_served.closes_connections:
            self._notify({key for key in self._connectors if namespace in (None, key.namespace)})

    def set_ca_file(self, pem: bytes | None) -> None:
        """The content of `connector_ca_file`."""
        if pem != self._shared_ca_file:
            self._shared_ca_file = pem
            self._notify(self._invalidate_all())

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with the keys of the Connectors that a change may concern; returns how to end that."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def _resolve(self, key: ObjectKey) -> Target | Unusable | None:
        if (not_served := self.not_served_reason(key.namespace)) is not None:
            return Unusable(key=key, reason=not_served.reason, message=not_served.message)
        connector = self._connectors.get(key)
        if connector is None:
            # Unknown keys are what anybody can send: they are not remembered.
            return None
        cls = self._classes.get(connector.class_name)
        resolution = resolve(connector, cls, self._secrets.get, self.shared_ca, self._roles.get)
        self._resolved[key] = resolution
        return resolution

    def _set(self, source: str, identity: ObjectIdentity, obj: StoreObject) -> set[ObjectKey]:
        source_objects = self._sources.setdefault(source, {})
        current, previous = self._current_object(identity), source_objects.get(identity)
        source_objects[identity] = obj
        if isinstance(obj, Secret) and isinstance(current, Secret):
            if current is not previous and _is_older(obj, current):
                # Of two watches one is behind the other; to its own state before, what a watch brings is always next.
                return set()
            if current == obj:
                self._secrets[obj.key] = obj
                return set()
        return self._index(identity, obj)

    def _current_object(self, identity: ObjectIdentity) -> StoreObject | None:
        """What counts of all that the sources hold."""
        kind, name = identity
        obj: StoreObject | None
        if isinstance(name, str):
            obj = self._roles.get(name) if kind is ClusterRole else self._classes.get(name)
        elif kind in (Role, Binding):
            obj = self._rbac_objects.get(identity)
        else:
            obj = self._secrets.get(name) if kind is Secret else self._connectors.get(name)
        return obj

    def _drop(self, source: str, identity: ObjectIdentity) -> set[ObjectKey]:
        del self._sources[source][identity]
        # The last source: what is built in comes first and yields to every other.
        remaining = [objects[identity] for objects in self._sources.values() if identity in objects]
        return self._index(identity, remaining[-1] if remaining else None)

    def _index(self, identity: ObjectIdentity, obj: StoreObject | None) -> set[ObjectKey]:
        kind, name = identity
        if isinstance(name, str):
            if kind is ClusterRole:
                self._bindings = None
                _set_or_pop(self._roles, name, obj if isinstance(obj, ClusterRole) else None)
            else:
                _set_or_pop(self._classes, name, obj if isinstance(obj, ConnectorClass) else None)
            return self._invalidate(identity)
        if kind in (Role, Binding):
            _set_or_pop(self._rbac_objects, identity, obj if isinstance(obj, Role | Binding) else None)
            self._bindings = None
            return set()
        if kind is Secret:
            return self._index_secret(name, obj if isinstance(obj, Secret) else None)
        return self._index_connector(name, obj if isinstance(obj, Connector | InvalidConnector) else None)

    def _index_secret(self, key: ObjectKey, secret: Secret | None) -> set[ObjectKey]:
        _set_or_pop(self._secrets, key, secret)
        shared_ca = secret.ca if secret is not None and secret.is_shared_ca else None
        if shared_ca != self._shared_secrets.get(key):
            _set_or_pop(self._shared_secrets, key, shared_ca)
            return self._invalidate_all()
        return self._invalidate(key)

    def _index_connector(self, key: ObjectKey, connector: Connector | InvalidConnector | None) -> set[ObjectKey]:
        for name in _dependencies(self._connectors.get(key)):
            dependents = self._dependents[name]
            dependents.discard(key)
            if not dependents:
                del self._dependents[name]
        for name in _dependencies(connector):
            self._dependents.setdefault(name, set()).add(key)
        _set_or_pop(self._connectors, key, connector)
        self._resolved.pop(key, None)
        return {key}

    def _invalidate(self, name: ObjectKey | ObjectIdentity) -> set[ObjectKey]:
        keys = set(self._dependents.get(name, ()))
        for key in keys:
            self._resolved.pop(key, None)
        return keys

    def _invalidate_all(self) -> set[ObjectKey]:
        self._resolved.clear()
        return set(self._connectors)

    def _notify(self, keys: set[ObjectKey]) -> None:
        if keys:
            changed_keys = frozenset(keys)
            for subscriber in tuple(self._subscribers):
                subscriber(changed_keys)


class _ResolutionCache(dict[ObjectKey, Target | Unusable | None]):
    """Joins what it does not hold, when it is asked for."""

    def __init__(self, join: Callable[[ObjectKey], Target | Unusable | None]) -> None:
        super().__init__()
        self._join = join

    def __missing__(self, key: ObjectKey) -> Target | Unusable | None:
        return self._join(key)


def _is_older(secret: Secret, other: Secret) -> bool:
    """Resource versions of one kind are decimal numbers that grow (KEP-5504); where they are not, nothing is known."""
    versions = secret.resource_version, other.resource_version
    return all(each.isascii() and each.isdigit() for each in versions) and int(versions[0]) < int(versions[1])


def identify(obj: StoreObject) -> ObjectIdentity:
    """What tells an object from others: another one of the same identity replaces it."""
    if isinstance(obj, ConnectorClass | ClusterRole):
        return type(obj), obj.name
    if isinstance(obj, Secret | Role | Binding):
        return type(obj), obj.key
    return Connector, obj.key


def _dependencies(connector: Connector | InvalidConnector | None) -> frozenset[ObjectKey | ObjectIdentity]:
    if connector is None:
        return frozenset()
    class_identity: ObjectIdentity = (ConnectorClass, connector.class_name)
    if isinstance(connector, InvalidConnector):
        return frozenset((class_identity,))
    roles = connector.permissions.role_names if connector.permissions is not None else frozenset()
    return frozenset((class_identity, *connector.secret_keys, *((ClusterRole, each) for each in roles)))


def _set_or_pop[K, V](mapping: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value
