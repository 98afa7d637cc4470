"""The store compared with a fresh join, after any changes in any order."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import Connector, ConnectorClass, InvalidConnector, Secret
from connector_store.domain.objects.resolve import resolve
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.rbac import ClusterRole, PolicyRule
from connector_store.store import Store, StoreObject, identify
from tests.connector_store.test_store import CONNECTOR, SECRET

NAMES = st.sampled_from(["k8s", "other"])
KEYS = st.builds(ObjectKey, st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]))
OBJECTS: st.SearchStrategy[StoreObject] = st.one_of(
    st.builds(
        lambda key, cls, secret, ca, role: replace(
            CONNECTOR, key=key, class_name=cls, secret_name=secret, ca_secret_name=ca, permissions=_only(role)
        ),
        KEYS,
        NAMES,
        st.sampled_from([None, "x", "y"]),
        st.sampled_from([None, "x", "y"]),
        st.none() | NAMES,
    ),
    st.builds(lambda key: InvalidConnector(key=key, class_name="k8s", reason="AddressInvalid", message="no"), KEYS),
    st.builds(
        lambda key, token, ca, shared: replace(SECRET, key=key, credential=token, ca=ca, is_shared_ca=shared),
        KEYS,
        st.sampled_from([None, BearerToken("1"), BearerToken("2")]),
        st.sampled_from([None, b"ca"]),
        st.booleans(),
    ),
    st.builds(lambda name, optional: _class(name, optional), NAMES, st.booleans()),
    st.builds(
        lambda name, verb: ClusterRole(name=name, rules=(PolicyRule(verbs=(verb,)),)),
        NAMES,
        st.sampled_from(["get", "list"]),
    ),
)
SOURCES = st.sampled_from(["one", "two"])


def _class(name: str, optional: bool) -> ConnectorClass:
    return replace(K8S, name=name, auth_types=(replace(K8S.auth_types[0], optional=optional),))


def _only(role: str | None) -> Permissions | None:
    return Permissions(allow=(RoleEntry(cluster_role=role),)) if role is not None else None


def _kind(obj: StoreObject) -> type:
    return Connector if isinstance(obj, InvalidConnector) else type(obj)


def _name(obj: StoreObject) -> ObjectKey | str:
    return identify(obj)[1]


class AnyInterleaving(RuleBasedStateMachine):
    """For every order of changes, the store gives the same targets as a fresh join of all sources' objects."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.notified_keys: set[ObjectKey] = set()
        self.store.subscribe(self.notified_keys.update)
        self.objects: dict[tuple[type, Any], dict[str, StoreObject]] = {(ConnectorClass, "k8s"): {"builtin": K8S}}
        self.previous: dict[ObjectKey, object] = {}

    @rule(source=SOURCES, obj=OBJECTS)
    def put(self, source: str, obj: StoreObject) -> None:
        versions = self.objects.setdefault((_kind(obj), _name(obj)), {})
        # The newest version wins, from any source. The versions of other sources are fallbacks.
        others = {name: version for name, version in versions.items() if name != source}
        self.objects[(_kind(obj), _name(obj))] = {**others, source: obj}
        self.store.put(source, obj)

    @rule(source=SOURCES, obj=OBJECTS)
    def remove(self, source: str, obj: StoreObject) -> None:
        self.objects.get((_kind(obj), _name(obj)), {}).pop(source, None)
        self.store.remove(source, _kind(obj), _name(obj))

    @rule(source=SOURCES)
    def remove_source(self, source: str) -> None:
        for versions in self.objects.values():
            versions.pop(source, None)
        self.store.remove_source(source)

    @invariant()
    def equals_a_fresh_join(self) -> None:
        fresh = Store()
        for kind in (ConnectorClass, ClusterRole, Secret, Connector):
            for (object_kind, _), versions in self.objects.items():
                if object_kind is kind and versions:
                    fresh.put("all", list(versions.values())[-1])
        for key in [ObjectKey(ns, name) for ns in "ab" for name in "xy"]:
            connector = fresh.connector(key)
            cls = fresh.connector_class(connector.class_name) if connector else None
            expected = None
            if connector is not None:
                expected = resolve(connector, cls, fresh.secret, fresh.shared_ca, fresh.cluster_role)
            assert self.store.get(key) == expected
            if self.previous.get(key) != expected:
                assert key in self.notified_keys
            self.previous[key] = expected
        self.notified_keys.clear()


TestAnyInterleaving = AnyInterleaving.TestCase
