"""The store: sources, the join after each change, and who is told."""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from connector_store.domain.builtin import K8S
from connector_store.domain.models import (
    BEARER_TOKEN_SECRET,
    Address,
    AuthType,
    Connector,
    ConnectorClass,
    Credential,
    Rejected,
    Secret,
    Target,
    Unusable,
)
from connector_store.domain.names import ObjectKey
from connector_store.domain.resolve import resolve
from connector_store.store import Object, Store

KEY = ObjectKey("a", "k8s")
CONNECTOR = Connector(key=KEY, class_name="k8s", address=Address(host="h", port=1), secret_name="s")
SECRET = Secret(key=ObjectKey("a", "s"), type=BEARER_TOKEN_SECRET, token=Credential("one"))
SHARED = Secret(key=ObjectKey("sys", "ca"), type="Opaque", ca=b"shared", is_shared_ca=True)


@dataclass
class Told:
    keys: list[frozenset[ObjectKey]]


def filled() -> tuple[Store, Told]:
    store = Store()
    store.replace("connectors", [CONNECTOR])
    store.replace("secrets", [SECRET])
    told = Told([])
    store.subscribe(told.keys.append)
    return store, told


def usable(store: Store) -> Target:
    found = store.get(KEY)
    assert isinstance(found, Target)
    return found


def test_joins_once_and_keeps_the_same_object_until_something_changes() -> None:
    store, _ = filled()
    assert usable(store) is usable(store)


def test_a_rotated_secret_gives_the_new_credential_and_tells_its_connectors() -> None:
    store, told = filled()
    before = usable(store)
    store.put("secrets", replace(SECRET, token=Credential("two")))
    assert usable(store).credential == Credential("two")
    assert usable(store) is not before
    assert told.keys == [frozenset({KEY})]


def test_a_deleted_secret_makes_its_connector_unusable() -> None:
    store, told = filled()
    store.remove("secrets", Secret, SECRET.key)
    assert isinstance(store.get(KEY), Unusable)
    assert told.keys == [frozenset({KEY})]


def test_a_deleted_connector_is_gone() -> None:
    store, told = filled()
    store.remove("connectors", Connector, KEY)
    assert store.get(KEY) is None
    assert store.connector(KEY) is None
    assert told.keys == [frozenset({KEY})]


def test_removing_what_a_source_never_had_changes_nothing() -> None:
    store, told = filled()
    store.remove("elsewhere", Connector, KEY)
    store.remove("connectors", Secret, SECRET.key)
    assert isinstance(store.get(KEY), Target)
    assert told.keys == []


def test_a_list_drops_what_it_lacks_and_tells_only_of_changes() -> None:
    store, told = filled()
    store.replace("connectors", [CONNECTOR])
    assert told.keys == []
    store.replace("connectors", [])
    assert told.keys == [frozenset({KEY})]
    assert list(store.connectors()) == []


def test_an_object_stays_while_another_source_has_it() -> None:
    store, _ = filled()
    store.put("named", SECRET)
    store.forget("secrets")
    assert isinstance(store.get(KEY), Target)
    store.forget("named")
    assert isinstance(store.get(KEY), Unusable)
    assert store.secret(SECRET.key) is None


def test_forgetting_an_unknown_source_is_no_error() -> None:
    store, told = filled()
    store.forget("never")
    assert told.keys == []


def test_a_connector_that_names_another_secret_no_longer_follows_the_first() -> None:
    store, told = filled()
    store.put("connectors", replace(CONNECTOR, secret_name="other"))
    told.keys.clear()
    store.put("secrets", replace(SECRET, token=None))
    assert told.keys == []


def test_a_rejected_connector_is_unusable_and_says_why() -> None:
    store, _ = filled()
    store.put("connectors", Rejected(key=KEY, class_name="k8s", reason="AddressInvalid", message="spec.address: no"))
    found = store.get(KEY)
    assert isinstance(found, Unusable)
    assert found.reason == "AddressInvalid"


def test_an_edited_class_counts_and_the_built_in_one_returns_when_it_is_deleted() -> None:
    store, told = filled()
    edited = ConnectorClass(name="k8s", auth_types=(AuthType(name="basic", secret_type="basic"),))
    store.put("classes", edited)
    assert store.get(KEY) is None
    assert store.connector_class("k8s") == edited
    store.remove("classes", ConnectorClass, "k8s")
    assert store.connector_class("k8s") == K8S
    assert isinstance(store.get(KEY), Target)
    assert told.keys == [frozenset({KEY}), frozenset({KEY})]


def test_shared_cas_are_joined_in_a_stable_order_and_concern_every_connector() -> None:
    store, told = filled()
    store.put("cas", replace(SHARED, key=ObjectKey("sys", "z"), ca=b"last"))
    store.put("cas", SHARED)
    store.set_ca_file(b"file")
    store.set_ca_file(b"file")
    assert store.shared_ca == b"shared\nlast\nfile"
    assert usable(store).ca == b"shared\nlast\nfile"
    assert told.keys == [frozenset({KEY})] * 3
    store.forget("cas")
    store.set_ca_file(None)
    assert store.shared_ca is None


def test_is_synced_when_every_expected_source_has_listed() -> None:
    store = Store(expected=["connectors"])
    store.expect("secrets")
    assert not store.synced
    store.replace("connectors", [])
    assert not store.synced
    store.forget("secrets")
    assert store.synced


def test_counts_objects_by_kind() -> None:
    store, _ = filled()
    assert store.counts == {"Connector": 1, "Secret": 1, "ConnectorClass": 1}


def test_a_subscriber_that_left_is_not_told() -> None:
    store, _ = filled()
    told = Told([])
    leave = store.subscribe(told.keys.append)
    leave()
    store.put("secrets", replace(SECRET, token=None))
    assert told.keys == []


def test_an_unknown_key_is_not_remembered() -> None:
    store, _ = filled()
    assert store.get(ObjectKey("a", "later")) is None
    store.put("connectors", replace(CONNECTOR, key=ObjectKey("a", "later")))
    assert isinstance(store.get(ObjectKey("a", "later")), Target)


NAMES = st.sampled_from(["k8s", "other"])
KEYS = st.builds(ObjectKey, st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]))
OBJECTS: st.SearchStrategy[Object] = st.one_of(
    st.builds(
        lambda key, cls, secret, ca: replace(CONNECTOR, key=key, class_name=cls, secret_name=secret, ca_secret_name=ca),
        KEYS,
        NAMES,
        st.sampled_from([None, "x", "y"]),
        st.sampled_from([None, "x", "y"]),
    ),
    st.builds(lambda key: Rejected(key=key, class_name="k8s", reason="AddressInvalid", message="no"), KEYS),
    st.builds(
        lambda key, token, ca, shared: replace(SECRET, key=key, token=token, ca=ca, is_shared_ca=shared),
        KEYS,
        st.sampled_from([None, Credential("1"), Credential("2")]),
        st.sampled_from([None, b"ca"]),
        st.booleans(),
    ),
    st.builds(lambda name, optional: _class(name, optional), NAMES, st.booleans()),
)
SOURCES = st.sampled_from(["one", "two"])


def _class(name: str, optional: bool) -> ConnectorClass:
    return replace(K8S, name=name, auth_types=(replace(K8S.auth_types[0], optional=optional),))


def _kind(obj: Object) -> type:
    return Connector if isinstance(obj, Rejected) else type(obj)


def _name(obj: Object) -> ObjectKey | str:
    return obj.name if isinstance(obj, ConnectorClass) else obj.key


class AnyInterleaving(RuleBasedStateMachine):
    """For every order of changes: the store answers as a join made anew from all that the sources hold."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.told: set[ObjectKey] = set()
        self.store.subscribe(self.told.update)
        self.held: dict[tuple[type, Any], dict[str, Object]] = {(ConnectorClass, "k8s"): {"builtin": K8S}}
        self.seen: dict[ObjectKey, object] = {}

    @rule(source=SOURCES, obj=OBJECTS)
    def put(self, source: str, obj: Object) -> None:
        held = self.held.setdefault((_kind(obj), _name(obj)), {})
        # The newest version wins, whoever brought it; the others keep theirs to fall back on.
        others = {name: each for name, each in held.items() if name != source}
        self.held[(_kind(obj), _name(obj))] = {**others, source: obj}
        self.store.put(source, obj)

    @rule(source=SOURCES, obj=OBJECTS)
    def remove(self, source: str, obj: Object) -> None:
        self.held.get((_kind(obj), _name(obj)), {}).pop(source, None)
        self.store.remove(source, _kind(obj), _name(obj))

    @rule(source=SOURCES)
    def forget(self, source: str) -> None:
        for held in self.held.values():
            held.pop(source, None)
        self.store.forget(source)

    @invariant()
    def answers_as_a_fresh_join(self) -> None:
        fresh = Store()
        for kind in (ConnectorClass, Secret, Connector):
            for (held_kind, _), held in self.held.items():
                if held_kind is kind and held:
                    fresh.put("all", list(held.values())[-1])
        for key in [ObjectKey(ns, name) for ns in "ab" for name in "xy"]:
            connector = fresh.connector(key)
            cls = fresh.connector_class(connector.class_name) if connector else None
            expected = resolve(connector, cls, fresh.secret, fresh.shared_ca) if connector else None
            assert self.store.get(key) == expected
            if self.seen.get(key) != expected:
                assert key in self.told
            self.seen[key] = expected
        self.told.clear()


TestAnyInterleaving = AnyInterleaving.TestCase
