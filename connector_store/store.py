"""The shelf: an in-memory index of parsed objects, joined into what the data path needs.

Several sources (reflectors, a folder) feed it; each owns what it put, and an object is there as long as one source
has it. `get` is a dictionary lookup: the join is made once after each change, when first asked for. Not thread-safe:
every call is made on one event loop.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import Connector, ConnectorClass, Rejected, Secret, Target, Unusable
from connector_store.domain.objects.resolve import resolve
from connector_store.domain.permissions.bindings import Binding, Bindings, Role
from connector_store.domain.permissions.rbac import ClusterRole
from connector_store.domain.status.serving import Withheld, not_named

Object = Connector | Rejected | Secret | ConnectorClass | ClusterRole | Role | Binding
Subscriber = Callable[[frozenset[ObjectKey]], None]

Identity = tuple[type, ObjectKey | str]

_BUILTIN: Final = "builtin"


class Store:
    """Connectors, Secrets, ConnectorClasses and what RBAC knows, by source; see the module's text."""

    def __init__(self, *, expected: Iterable[str] = ()) -> None:
        """`expected` names the sources whose first list must be in before the store is synced."""
        self._sources: dict[str, dict[Identity, Object]] = {_BUILTIN: {(ConnectorClass, K8S.name): K8S}}
        self._connectors: dict[ObjectKey, Connector | Rejected] = {}
        self._secrets: dict[ObjectKey, Secret] = {}
        self._classes: dict[str, ConnectorClass] = {K8S.name: K8S}
        self._roles: dict[str, ClusterRole] = {}
        self._bound: dict[Identity, Role | Binding] = {}
        self._bindings: Bindings | None = None
        self._users: dict[ObjectKey | Identity, set[ObjectKey]] = {}
        """The Connectors that name a Secret, or an object of cluster scope."""
        self._resolved = _Resolved(self._resolve)
        self.get: Final[Callable[[ObjectKey], Target | Unusable | None]] = self._resolved.__getitem__
        """What the Connector of a key is good for; None if there is none of ours.

        What is withheld is Unusable whether it is there or not: ask only for callers who may use that key.
        """
        self._shared_ca_file: bytes | None = None
        self._shared_secrets: dict[ObjectKey, bytes] = {}
        self._subscribers: list[Subscriber] = []
        self.unsynced = set(expected)
        """Sources that have not listed yet."""
        self._served: frozenset[str] | None = None
        self._withheld: dict[str | None, Withheld] = {}

    def connector(self, key: ObjectKey) -> Connector | Rejected | None:
        return self._connectors.get(key)

    def connectors(self) -> Iterator[Connector | Rejected]:
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
                roles=(each for each in self._bound.values() if isinstance(each, Role)),
                bindings=(each for each in self._bound.values() if isinstance(each, Binding)),
            )
        return self._bindings

    @property
    def counts(self) -> Mapping[str, int]:
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
        return not self.unsynced

    def replace(self, source: str, objects: Iterable[Object]) -> None:
        """Take `objects` for all that `source` has (a list), and count the source as synced."""
        fresh = {identify(each): each for each in objects}
        held = self._sources.setdefault(source, {})
        touched: set[ObjectKey] = set()
        for identity in [each for each in held if each not in fresh]:
            touched |= self._drop(source, identity)
        for identity, each in fresh.items():
            if held.get(identity) != each or isinstance(each, Secret):
                touched |= self._set(source, identity, each)
        self.unsynced.discard(source)
        self._notify(touched)

    def put(self, source: str, obj: Object) -> None:
        """One object of `source` was added or modified; nobody is told of one that means what it meant."""
        identity = identify(obj)
        held = self._sources.get(source, {}).get(identity)
        if held != obj or self._indexed(identity) != obj or isinstance(obj, Secret):
            self._notify(self._set(source, identity, obj))

    def remove(self, source: str, kind: type, name: ObjectKey | str) -> None:
        """One object of `source` was deleted; `kind` is Connector, Secret, ConnectorClass or ClusterRole."""
        if (kind, name) in self._sources.get(source, {}):
            self._notify(self._drop(source, (kind, name)))

    def forget(self, source: str) -> None:
        """The source is gone (a named watch that nobody needs), and with it what only it had."""
        touched: set[ObjectKey] = set()
        for identity in list(self._sources.get(source, {})):
            touched |= self._drop(source, identity)
        self._sources.pop(source, None)
        self.unsynced.discard(source)
        self._notify(touched)

    def expect(self, source: str) -> None:
        """Not synced until `source` has listed."""
        self.unsynced.add(source)

    def excuse(self, source: str) -> None:
        """Do not wait for `source` any more: it cannot be read."""
        self.unsynced.discard(source)

    @property
    def withheld(self) -> Mapping[str | None, Withheld]:
        """Namespaces that cannot be served at the moment, and why; None stands for all."""
        return self._withheld

    def why_withheld(self, namespace: str) -> Withheld | None:
        """Why no Connector of that namespace can be used; None if they can."""
        if not self.serves(namespace):
            return not_named(namespace)
        return self._withheld.get(namespace) or self._withheld.get(None)

    def serves(self, namespace: str) -> bool:
        """Whether it is one of those of `serve_only`."""
        return self._served is None or namespace in self._served

    def serve_only(self, namespaces: Iterable[str] | None) -> None:
        """None: Connectors of all namespaces are served."""
        self._served = None if namespaces is None else frozenset(namespaces)
        self._resolved.clear()

    def withhold(self, namespace: str | None, why: Withheld | None) -> None:
        """Serve Connectors of the namespace, or of all, no more; or, without a reason, again."""
        if self._withheld.get(namespace) == why:
            return
        _set_or_pop(self._withheld, namespace, why)
        self._resolved.clear()
        if why is None or why.cut:
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
        if (withheld := self.why_withheld(key.namespace)) is not None:
            return Unusable(key=key, reason=withheld.reason, message=withheld.message)
        connector = self._connectors.get(key)
        if connector is None:
            # Unknown keys are what anybody can send: they are not remembered.
            return None
        cls = self._classes.get(connector.class_name)
        found = resolve(connector, cls, self._secrets.get, self.shared_ca, self._roles.get)
        self._resolved[key] = found
        return found

    def _set(self, source: str, identity: Identity, obj: Object) -> set[ObjectKey]:
        held = self._sources.setdefault(source, {})
        counts, before = self._indexed(identity), held.get(identity)
        held[identity] = obj
        if isinstance(obj, Secret) and isinstance(counts, Secret):
            if counts is not before and _is_older(obj, counts):
                # Of two watches one is behind the other; to its own state before, what a watch brings is always next.
                return set()
            if counts == obj:
                self._secrets[obj.key] = obj
                return set()
        return self._index(identity, obj)

    def _indexed(self, identity: Identity) -> Object | None:
        """What counts of all that the sources hold."""
        kind, name = identity
        found: Object | None
        if isinstance(name, str):
            found = self._roles.get(name) if kind is ClusterRole else self._classes.get(name)
        elif kind in (Role, Binding):
            found = self._bound.get(identity)
        else:
            found = self._secrets.get(name) if kind is Secret else self._connectors.get(name)
        return found

    def _drop(self, source: str, identity: Identity) -> set[ObjectKey]:
        del self._sources[source][identity]
        # The last source: what is built in comes first and yields to every other.
        others = [held[identity] for held in self._sources.values() if identity in held]
        return self._index(identity, others[-1] if others else None)

    def _index(self, identity: Identity, obj: Object | None) -> set[ObjectKey]:
        kind, name = identity
        if isinstance(name, str):
            if kind is ClusterRole:
                self._bindings = None
                _set_or_pop(self._roles, name, obj if isinstance(obj, ClusterRole) else None)
            else:
                _set_or_pop(self._classes, name, obj if isinstance(obj, ConnectorClass) else None)
            return self._invalidate(identity)
        if kind in (Role, Binding):
            _set_or_pop(self._bound, identity, obj if isinstance(obj, Role | Binding) else None)
            self._bindings = None
            return set()
        if kind is Secret:
            return self._index_secret(name, obj if isinstance(obj, Secret) else None)
        return self._index_connector(name, obj if isinstance(obj, Connector | Rejected) else None)

    def _index_secret(self, key: ObjectKey, secret: Secret | None) -> set[ObjectKey]:
        _set_or_pop(self._secrets, key, secret)
        shared = secret.ca if secret is not None and secret.is_shared_ca else None
        if shared != self._shared_secrets.get(key):
            _set_or_pop(self._shared_secrets, key, shared)
            return self._invalidate_all()
        return self._invalidate(key)

    def _index_connector(self, key: ObjectKey, connector: Connector | Rejected | None) -> set[ObjectKey]:
        for name in _names(self._connectors.get(key)):
            users = self._users[name]
            users.discard(key)
            if not users:
                del self._users[name]
        for name in _names(connector):
            self._users.setdefault(name, set()).add(key)
        _set_or_pop(self._connectors, key, connector)
        self._resolved.pop(key, None)
        return {key}

    def _invalidate(self, name: ObjectKey | Identity) -> set[ObjectKey]:
        keys = set(self._users.get(name, ()))
        for key in keys:
            self._resolved.pop(key, None)
        return keys

    def _invalidate_all(self) -> set[ObjectKey]:
        self._resolved.clear()
        return set(self._connectors)

    def _notify(self, keys: set[ObjectKey]) -> None:
        if keys:
            frozen = frozenset(keys)
            for subscriber in tuple(self._subscribers):
                subscriber(frozen)


class _Resolved(dict[ObjectKey, Target | Unusable | None]):
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


def identify(obj: Object) -> Identity:
    """What tells an object from others: another one of the same identity replaces it."""
    if isinstance(obj, ConnectorClass | ClusterRole):
        return type(obj), obj.name
    if isinstance(obj, Secret | Role | Binding):
        return type(obj), obj.key
    return Connector, obj.key


def _names(connector: Connector | Rejected | None) -> frozenset[ObjectKey | Identity]:
    if connector is None:
        return frozenset()
    of_class: Identity = (ConnectorClass, connector.class_name)
    if isinstance(connector, Rejected):
        return frozenset((of_class,))
    roles = connector.permissions.role_names if connector.permissions is not None else frozenset()
    return frozenset((of_class, *connector.secret_keys, *((ClusterRole, each) for each in roles)))


def _set_or_pop[K, V](mapping: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value
