"""The store: sources, the join after each change, and who is told."""

from dataclasses import dataclass, replace

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.config.settings import AccessRule
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, BearerToken
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import (
    Address,
    AuthType,
    Connector,
    ConnectorClass,
    InvalidConnector,
    Secret,
    Target,
    Unusable,
)
from connector_store.domain.permissions.bindings import Binding, ClusterRoleRef, Role, RoleRef, Subject
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.rbac import ClusterRole, PolicyRule
from connector_store.domain.status.serving import namespace_not_readable, not_watched
from connector_store.store import Store

KEY = ObjectKey("a", "k8s")
CONNECTOR = Connector(key=KEY, class_name="k8s", address=Address(host="h", port=1), secret_name="s")
SECRET = Secret(key=ObjectKey("a", "s"), type=BEARER_TOKEN_SECRET, credential=BearerToken("one"))
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
    store.put("secrets", replace(SECRET, credential=BearerToken("two")))
    assert usable(store).credential == BearerToken("two")
    assert usable(store) is not before
    assert told.keys == [frozenset({KEY})]


def test_a_deleted_secret_makes_its_connector_unusable() -> None:
    store, told = filled()
    store.remove("secrets", Secret, SECRET.key)
    assert isinstance(store.get(KEY), Unusable)
    assert told.keys == [frozenset({KEY})]


def test_of_two_connectors_with_one_secret_the_other_is_still_told() -> None:
    store, told = filled()
    other = ObjectKey("a", "other")
    store.put("connectors", replace(CONNECTOR, key=other))
    store.remove("connectors", Connector, KEY)
    store.put("secrets", replace(SECRET, credential=BearerToken("two")))
    assert told.keys[-1] == frozenset({other})


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
    store.remove_source("secrets")
    assert isinstance(store.get(KEY), Target)
    store.remove_source("named")
    assert isinstance(store.get(KEY), Unusable)
    assert store.secret(SECRET.key) is None


def versioned(token: str, version: str) -> Secret:
    return replace(SECRET, credential=BearerToken(token), resource_version=version)


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        pytest.param("9", "10", "second", id="the later one is newer"),
        pytest.param("10", "9", "first", id="the later one is older, whatever it looks like as text"),
        pytest.param("", "9", "second", id="a version that is not known"),
        pytest.param("x9", "9", "second", id="a version that is no number"),
    ],
)
def test_of_two_watches_the_newer_state_of_a_secret_counts(first: str, second: str, counts: str) -> None:
    store, told = filled()
    store.replace("secrets", [versioned("first", first)])
    told.keys.clear()
    store.put("other", versioned("second", second))
    assert usable(store).credential == BearerToken(counts)
    assert bool(told.keys) is (counts == "second")


def test_what_one_watch_brings_is_always_next_as_after_a_restored_backup() -> None:
    store, _ = filled()
    store.replace("secrets", [versioned("first", "10")])
    store.put("secrets", versioned("restored", "3"))
    assert usable(store).credential == BearerToken("restored")


def test_a_newer_version_that_means_the_same_wakes_nobody_and_counts() -> None:
    store, told = filled()
    store.replace("secrets", [versioned("one", "5")])
    store.put("secrets", versioned("one", "9"))
    assert told.keys == []
    store.put("other", versioned("behind", "7"))
    assert usable(store).credential == BearerToken("one")


def test_forgetting_an_unknown_source_is_no_error() -> None:
    store, told = filled()
    store.remove_source("never")
    assert told.keys == []


def test_a_connector_that_names_another_secret_no_longer_follows_the_first() -> None:
    store, told = filled()
    store.put("connectors", replace(CONNECTOR, secret_name="other"))
    told.keys.clear()
    store.put("secrets", replace(SECRET, credential=None))
    assert told.keys == []


def test_a_rejected_connector_is_unusable_and_says_why() -> None:
    store, _ = filled()
    store.put(
        "connectors", InvalidConnector(key=KEY, class_name="k8s", reason="AddressInvalid", message="spec.address: no")
    )
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
    store.remove_source("cas")
    store.set_ca_file(None)
    assert store.shared_ca is None


def test_is_synced_when_every_expected_source_has_listed() -> None:
    store = Store(expected=["connectors"])
    store.expect("secrets")
    assert not store.synced
    store.replace("connectors", [])
    assert not store.synced
    store.remove_source("secrets")
    assert store.synced


def test_a_role_that_changes_concerns_the_connectors_that_name_it() -> None:
    store, told = filled()
    limited = replace(CONNECTOR, permissions=Permissions(allow=(RoleEntry(cluster_role="k8s"),)))
    store.put("connectors", limited)
    found = store.get(KEY)
    assert isinstance(found, Unusable)
    assert found.reason == "RoleNotFound"
    role = ClusterRole(name="k8s", rules=(PolicyRule(verbs=("get",)),))
    other = replace(role, name="other")
    told.keys.clear()
    store.put("roles", role)
    before = usable(store).permissions
    store.put("roles", other)
    assert told.keys == [frozenset({KEY})]
    assert (store.cluster_role("k8s"), store.object_counts["ClusterRole"]) == (role, 2)
    store.put("roles", replace(role, rules=()))
    assert usable(store).permissions != before
    store.remove("roles", ClusterRole, "k8s")
    assert isinstance(store.get(KEY), Unusable)
    assert store.cluster_role("k8s") is None


def test_counts_objects_by_kind() -> None:
    store, _ = filled()
    assert store.object_counts == {"Connector": 1, "Secret": 1, "ConnectorClass": 1, "ClusterRole": 0}


def test_a_subscriber_that_left_is_not_told() -> None:
    store, _ = filled()
    told = Told([])
    leave = store.subscribe(told.keys.append)
    leave()
    store.put("secrets", replace(SECRET, credential=None))
    assert told.keys == []


def test_a_subscriber_that_leaves_while_it_is_told_takes_the_change_from_nobody() -> None:
    store, _ = filled()
    leave = store.subscribe(lambda keys: leave())
    told = Told([])
    store.subscribe(told.keys.append)
    store.put("secrets", replace(SECRET, credential=None))
    assert len(told.keys) == 1


def test_an_unknown_key_is_not_remembered() -> None:
    store, _ = filled()
    assert store.get(ObjectKey("a", "later")) is None
    store.put("connectors", replace(CONNECTOR, key=ObjectKey("a", "later")))
    assert isinstance(store.get(ObjectKey("a", "later")), Target)


def test_what_is_withheld_is_unusable_whether_it_is_there_or_not_and_nobody_is_told_of_an_outage() -> None:
    store, told = filled()
    unknown = ObjectKey("a", "unknown")
    outage, unbound = not_watched("Secret", 600, refused=False), namespace_not_readable("a")
    store.set_not_served(None, outage)
    assert told.keys == []
    for key in (KEY, unknown):
        found = store.get(key)
        assert isinstance(found, Unusable)
        assert (found.reason, found.message) == (outage.reason, outage.message)
    store.set_not_served("a", unbound)
    store.set_not_served("a", unbound)
    assert told.keys == [frozenset({KEY})]
    assert store.not_served_reason("a") == unbound
    assert store.not_served_reason("b") == outage
    store.set_not_served("a", None)
    store.set_not_served(None, None)
    assert store.not_served == {}
    assert usable(store).address == CONNECTOR.address
    assert store.get(unknown) is None


def test_a_connector_whose_status_alone_was_written_wakes_nobody() -> None:
    store, told = filled()
    before = usable(store)
    store.put("connectors", replace(CONNECTOR, resource_version="2"))
    store.replace("connectors", [replace(CONNECTOR, resource_version="3")])
    assert told.keys == []
    assert usable(store) is before


def test_only_the_named_namespaces_are_served() -> None:
    store, _ = filled()
    store.serve_only(["b"])
    assert isinstance(store.get(KEY), Unusable)
    assert not store.serves("a")
    assert store.not_served_reason("b") is None
    store.serve_only(None)
    assert usable(store)


def test_a_source_that_is_excused_is_not_waited_for() -> None:
    store = Store(expected=["one", "other"])
    store.replace("one", [])
    assert not store.synced
    store.stop_expecting("other")
    assert store.synced


def test_roles_and_bindings_count_from_the_change_on_and_concern_no_stream_at_once() -> None:
    store, rule, me = Store(), AccessRule("use", "connectors", "proxy"), Identity(user="me")
    told: list[frozenset[ObjectKey]] = []
    store.subscribe(told.append)
    use = PolicyRule(verbs=("use",), api_groups=("connectors.alauda.io",), resources=("connectors/proxy",))
    key, role = ObjectKey("n", "c"), ObjectKey("n", "r")
    assert not store.bindings.allows(me, rule, key)
    binding = Binding(key=ObjectKey("n", "b"), role=RoleRef("r"), subjects=(Subject(kind="User", name="me"),))
    store.replace("folder", [Role(key=role, rules=(use,)), binding])
    assert store.bindings.allows(me, rule, key)
    kept = store.bindings
    store.put("folder", Role(key=role, rules=(use,)))
    assert store.bindings is kept
    store.remove("folder", Role, role)
    assert not store.bindings.allows(me, rule, key)
    store.put("folder", ClusterRole(name="r", rules=(use,)))
    store.put("folder", replace(binding, role=ClusterRoleRef("r")))
    kept = store.bindings
    store.put("folder", ClusterRole(name="r", rules=(use,)))
    assert store.bindings is kept
    assert store.bindings.allows(me, rule, key)
    assert told == []
