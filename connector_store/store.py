"""In-memory index of parsed objects, joined into the targets that the data path needs.

Several sources (reflectors, a folder) fill it. Each source owns its objects, and an object exists while at least one
source has it. `get` is a dictionary lookup: the first call after a change makes the join. The store is not
thread-safe. Use it on one event loop.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Final

from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.grants.access_index import AccessClock, AccessIndex, set_or_pop
from connector_store.domain.objects.access_objects import (
    ACCESS_KINDS,
    AccessApproval,
    AccessLock,
    AccessObject,
    AccessPolicy,
    AccessRequest,
    Namespace,
)
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import Connector, ConnectorClass, InvalidConnector, Secret, Target, Unusable
from connector_store.domain.objects.resolve import resolve
from connector_store.domain.permissions.bindings import Binding, Bindings, Role
from connector_store.domain.permissions.rbac import ClusterRole
from connector_store.domain.status.serving import NotServed, namespace_not_configured

StoreObject = Connector | InvalidConnector | Secret | ConnectorClass | ClusterRole | Role | Binding | AccessObject
Subscriber = Callable[[frozenset[ObjectKey]], None]

ObjectIdentity = tuple[type, ObjectKey | str]

_BUILTIN_SOURCE: Final = "builtin"
_NODE_CLOCK: Final = AccessClock(time.time, boot_time)
"""Clock of this machine, for sources without an API server."""


class Store:
    """Connectors, Secrets, ConnectorClasses and RBAC objects of all sources. See the module's docstring."""

    def __init__(self, *, expected: Iterable[str] = (), clock: AccessClock = _NODE_CLOCK) -> None:
        """Create a store. It is synced after the first list of each source in `expected`.

        `clock` is that of the API server, for the ends of access requests and locks.
        """
        self._sources: dict[str, dict[ObjectIdentity, StoreObject]] = {
            _BUILTIN_SOURCE: {(ConnectorClass, K8S.name): K8S}
        }
        self._connectors: dict[ObjectKey, Connector | InvalidConnector] = {}
        self._secrets: dict[ObjectKey, Secret] = {}
        self._classes: dict[str, ConnectorClass] = {K8S.name: K8S}
        self._roles: dict[str, ClusterRole] = {}
        self._rbac_objects: dict[ObjectIdentity, Role | Binding] = {}
        self._bindings: Bindings | None = None
        self._access_objects: dict[ObjectIdentity, AccessObject] = {}
        self.access = AccessIndex(self._find_connector, clock=clock)
        """Policies, requests, approvals and locks."""
        self._dependents: dict[ObjectKey | ObjectIdentity, set[ObjectKey]] = {}
        """Connectors by the Secret, class or role that they reference."""
        self._resolved = _ResolutionCache(self._resolve)
        self.get: Final[Callable[[ObjectKey], Target | Unusable | None]] = self._resolved.__getitem__
        """Return the target of a Connector, or why it is unusable. Return None if there is no supported Connector.

        A key that is not served is Unusable even if no Connector exists. Call it only for callers who may use the key.
        """
        self._shared_ca_file: bytes | None = None
        self._shared_secrets: dict[ObjectKey, bytes] = {}
        self._subscribers: list[Subscriber] = []
        self.unsynced_sources = set(expected)
        """Sources whose first list is still missing."""
        self._served_namespaces: frozenset[str] | None = None
        self._not_served: dict[str | None, NotServed] = {}

    def connector(self, key: ObjectKey) -> Connector | InvalidConnector | None:
        return self._connectors.get(key)

    def connectors(self) -> Iterator[Connector | InvalidConnector]:
        return iter(self._connectors.values())

    def _find_connector(self, key: ObjectKey) -> Connector | None:
        connector = self._connectors.get(key)
        return connector if isinstance(connector, Connector) else None

    def set_admission_enforced_since(self, time: float | None) -> None:
        """Set the time since which the admission policies are in force. None: they are not, so nothing is approved."""
        if self.access.set_enforced_since(time):
            self._notify(set(self._connectors))

    def secret(self, key: ObjectKey) -> Secret | None:
        return self._secrets.get(key)

    def connector_class(self, name: str) -> ConnectorClass | None:
        return self._classes.get(name)

    def cluster_role(self, name: str) -> ClusterRole | None:
        return self._roles.get(name)

    @property
    def bindings(self) -> Bindings:
        """Compiled roles and bindings of a folder. They are compiled once after each change."""
        if self._bindings is None:
            self._bindings = Bindings(
                cluster_roles=self._roles.values(),
                roles=(obj for obj in self._rbac_objects.values() if isinstance(obj, Role)),
                bindings=(obj for obj in self._rbac_objects.values() if isinstance(obj, Binding)),
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
            **self.access.counts,
        }

    @property
    def shared_ca(self) -> bytes | None:
        """PEM of the CAs for Connectors without their own (labelled Secrets, then the file), or None."""
        parts = [self._shared_secrets[key] for key in sorted(self._shared_secrets)]
        if self._shared_ca_file is not None:
            parts.append(self._shared_ca_file)
        return b"\n".join(parts) if parts else None

    @property
    def synced(self) -> bool:
        """True after the first list of every expected source."""
        return not self.unsynced_sources

    def replace(self, source: str, objects: Iterable[StoreObject]) -> None:
        """Replace all objects of `source` by `objects` (a list). The source is synced then."""
        new_objects = {identify(obj): obj for obj in objects}
        old_objects = self._sources.setdefault(source, {})
        changed_keys: set[ObjectKey] = set()
        for identity in [identity for identity in old_objects if identity not in new_objects]:
            changed_keys |= self._drop(source, identity)
        for identity, obj in new_objects.items():
            if old_objects.get(identity) != obj or isinstance(obj, Secret):
                changed_keys |= self._set(source, identity, obj)
        self.unsynced_sources.discard(source)
        self._notify(changed_keys)

    def put(self, source: str, obj: StoreObject) -> None:
        """Add or update an object of `source`. Subscribers are notified only if its meaning changed."""
        identity = identify(obj)
        previous = self._sources.get(source, {}).get(identity)
        if previous != obj or self._current_object(identity) != obj or isinstance(obj, Secret):
            self._notify(self._set(source, identity, obj))

    def remove(self, source: str, kind: type, name: ObjectKey | str) -> None:
        """Remove an object of `source`. `kind` is Connector, Secret, ConnectorClass or ClusterRole."""
        if (kind, name) in self._sources.get(source, {}):
            self._notify(self._drop(source, (kind, name)))

    def remove_source(self, source: str) -> None:
        """Remove a source and its objects, for example of a watch by name that is no longer needed."""
        changed_keys: set[ObjectKey] = set()
        for identity in list(self._sources.get(source, {})):
            changed_keys |= self._drop(source, identity)
        self._sources.pop(source, None)
        self.unsynced_sources.discard(source)
        self._notify(changed_keys)

    def identities(self, source: str) -> Set[ObjectIdentity]:
        """Return a live view of the identities of the source's objects."""
        return self._sources.get(source, {}).keys()

    def expect(self, source: str) -> None:
        """Wait for the first list of `source` before the store is synced."""
        self.unsynced_sources.add(source)

    def stop_expecting(self, source: str) -> None:
        """Stop waiting for `source`, because it cannot be read."""
        self.unsynced_sources.discard(source)

    @property
    def not_served(self) -> Mapping[str | None, NotServed]:
        """Namespaces that are not served at the moment, with the reason. The key None stands for all namespaces."""
        return self._not_served

    def not_served_reason(self, namespace: str) -> NotServed | None:
        """Return the reason why the namespace is not served, or None if it is served."""
        if not self.serves(namespace):
            return namespace_not_configured(namespace)
        return self._not_served.get(namespace) or self._not_served.get(None)

    def serves(self, namespace: str) -> bool:
        """Return True if `serve_only` includes the namespace."""
        return self._served_namespaces is None or namespace in self._served_namespaces

    def serve_only(self, namespaces: Iterable[str] | None) -> None:
        """Serve only Connectors of these namespaces. None means all namespaces."""
        served_before = {key for key in self._connectors if self.serves(key.namespace)}
        self._served_namespaces = None if namespaces is None else frozenset(namespaces)
        self._resolved.clear()
        self._notify(served_before ^ {key for key in self._connectors if self.serves(key.namespace)})

    def set_not_served(self, namespace: str | None, not_served: NotServed | None) -> None:
        """Stop serving a namespace, or all if it is None. Serve it again if `not_served` is None."""
        if self._not_served.get(namespace) == not_served:
            return
        set_or_pop(self._not_served, namespace, not_served)
        self._resolved.clear()
        if not_served is None or not_served.closes_connections:
            self._notify({key for key in self._connectors if namespace in (None, key.namespace)})

    def set_ca_file(self, pem: bytes | None) -> None:
        """Set the content of the option `connector_ca_file`."""
        if pem != self._shared_ca_file:
            self._shared_ca_file = pem
            self._notify(self._invalidate_all())

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with the keys of Connectors that a change may affect. Return a function to unsubscribe."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def _resolve(self, key: ObjectKey) -> Target | Unusable | None:
        if (not_served := self.not_served_reason(key.namespace)) is not None:
            return Unusable(key=key, reason=not_served.reason, message=not_served.message)
        connector = self._connectors.get(key)
        if connector is None:
            # Do not cache unknown keys, because any client can send them.
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
                # One of two watches can be behind the other. A watch's own previous state is always older.
                return set()
            if current == obj:
                self._secrets[obj.key] = obj
                return set()
        return self._index(identity, obj)

    def _current_object(self, identity: ObjectIdentity) -> StoreObject | None:
        """Return the object that is in effect of all sources' objects with that identity."""
        kind, name = identity
        obj: StoreObject | None
        if isinstance(name, str):
            obj = self._roles.get(name) if kind is ClusterRole else self._classes.get(name)
        elif kind in (Role, Binding):
            obj = self._rbac_objects.get(identity)
        elif kind in ACCESS_KINDS:
            obj = self._access_objects.get(identity)
        else:
            obj = self._secrets.get(name) if kind is Secret else self._connectors.get(name)
        return obj

    def _drop(self, source: str, identity: ObjectIdentity) -> set[ObjectKey]:
        del self._sources[source][identity]
        # The last source wins. The built-in source is the first, so every other source wins over it.
        remaining = [objects[identity] for objects in self._sources.values() if identity in objects]
        return self._index(identity, remaining[-1] if remaining else None)

    def _index(self, identity: ObjectIdentity, obj: StoreObject | None) -> set[ObjectKey]:
        kind, name = identity
        if isinstance(name, str):
            if kind is ClusterRole:
                self._bindings = None
                set_or_pop(self._roles, name, obj if isinstance(obj, ClusterRole) else None)
            else:
                set_or_pop(self._classes, name, obj if isinstance(obj, ConnectorClass) else None)
            return self._invalidate(identity)
        if kind in (Role, Binding):
            set_or_pop(self._rbac_objects, identity, obj if isinstance(obj, Role | Binding) else None)
            self._bindings = None
            return set()
        if kind in ACCESS_KINDS:
            return self._index_access(identity, name, obj if isinstance(obj, ACCESS_KINDS) else None)
        if kind is Secret:
            return self._index_secret(name, obj if isinstance(obj, Secret) else None)
        return self._index_connector(name, obj if isinstance(obj, Connector | InvalidConnector) else None)

    def _index_access(self, identity: ObjectIdentity, key: ObjectKey, obj: AccessObject | None) -> set[ObjectKey]:
        set_or_pop(self._access_objects, identity, obj)
        scope = self.access.set(identity[0], key, obj)
        return {each for each in self._connectors if scope.contains(each)}

    def _index_secret(self, key: ObjectKey, secret: Secret | None) -> set[ObjectKey]:
        set_or_pop(self._secrets, key, secret)
        shared_ca = secret.ca if secret is not None and secret.is_shared_ca else None
        if shared_ca != self._shared_secrets.get(key):
            set_or_pop(self._shared_secrets, key, shared_ca)
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
        set_or_pop(self._connectors, key, connector)
        self._resolved.pop(key, None)
        self.access.on_connector_changed(key)
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
    """Cache of resolutions. It joins a missing key on access."""

    def __init__(self, join: Callable[[ObjectKey], Target | Unusable | None]) -> None:
        super().__init__()
        self._join = join

    def __missing__(self, key: ObjectKey) -> Target | Unusable | None:
        return self._join(key)


def _is_older(secret: Secret, other: Secret) -> bool:
    """Return True if `secret` is older than `other`. Resource versions of one kind are growing numbers (KEP-5504)."""
    versions = secret.resource_version, other.resource_version
    numeric = all(version.isascii() and version.isdigit() for version in versions)
    return numeric and int(versions[0]) < int(versions[1])


def identify(obj: StoreObject) -> ObjectIdentity:
    """Return the identity of an object. An object replaces another one with the same identity."""
    if isinstance(obj, ConnectorClass | ClusterRole):
        return type(obj), obj.name
    if isinstance(obj, Namespace):
        return Namespace, ObjectKey("", obj.name)
    if isinstance(obj, Secret | Role | Binding | AccessPolicy | AccessRequest | AccessApproval | AccessLock):
        return type(obj), obj.key
    return Connector, obj.key


def _dependencies(connector: Connector | InvalidConnector | None) -> frozenset[ObjectKey | ObjectIdentity]:
    if connector is None:
        return frozenset()
    class_identity: ObjectIdentity = (ConnectorClass, connector.class_name)
    if isinstance(connector, InvalidConnector):
        return frozenset((class_identity,))
    roles = connector.permissions.role_names if connector.permissions is not None else frozenset()
    return frozenset((class_identity, *connector.secret_keys, *((ClusterRole, role) for role in roles)))
