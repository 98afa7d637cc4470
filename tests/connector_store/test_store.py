"""The store: sources, the join after each change, and who is notified."""

from dataclasses import dataclass, replace

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.config.settings import AccessRule
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, BearerToken
from connector_store.domain.grants.access_index import NO_ENTITLEMENT
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessLock,
    AccessPolicy,
    AccessRequest,
    AccountSelector,
    ApprovalRule,
    Namespace,
)
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
class Notifications:
    keys: list[frozenset[ObjectKey]]


def filled() -> tuple[Store, Notifications]:
    store = Store()
    store.replace("connectors", [CONNECTOR])
    store.replace("secrets", [SECRET])
    notified = Notifications([])
    store.subscribe(notified.keys.append)
    return store, notified


def usable(store: Store) -> Target:
    resolution = store.get(KEY)
    assert isinstance(resolution, Target)
    return resolution


def test_the_join_is_made_once_per_change() -> None:
    store, _ = filled()
    assert usable(store) is usable(store)


def test_a_changed_secret_gives_the_new_credential_and_notifies() -> None:
    store, notified = filled()
    before = usable(store)
    store.put("secrets", replace(SECRET, credential=BearerToken("two")))
    assert usable(store).credential == BearerToken("two")
    assert usable(store) is not before
    assert notified.keys == [frozenset({KEY})]


def test_a_deleted_secret_makes_its_connector_unusable() -> None:
    store, notified = filled()
    store.remove("secrets", Secret, SECRET.key)
    assert isinstance(store.get(KEY), Unusable)
    assert notified.keys == [frozenset({KEY})]


def test_of_two_connectors_with_one_secret_the_other_is_still_notified() -> None:
    store, notified = filled()
    other = ObjectKey("a", "other")
    store.put("connectors", replace(CONNECTOR, key=other))
    store.remove("connectors", Connector, KEY)
    store.put("secrets", replace(SECRET, credential=BearerToken("two")))
    assert notified.keys[-1] == frozenset({other})


def test_a_deleted_connector_has_no_target() -> None:
    store, notified = filled()
    store.remove("connectors", Connector, KEY)
    assert store.get(KEY) is None
    assert store.connector(KEY) is None
    assert notified.keys == [frozenset({KEY})]


def test_removing_an_unknown_object_changes_nothing() -> None:
    store, notified = filled()
    store.remove("elsewhere", Connector, KEY)
    store.remove("connectors", Secret, SECRET.key)
    assert isinstance(store.get(KEY), Target)
    assert notified.keys == []


def test_a_list_removes_missing_objects_and_notifies_only_of_changes() -> None:
    store, notified = filled()
    store.replace("connectors", [CONNECTOR])
    assert notified.keys == []
    store.replace("connectors", [])
    assert notified.keys == [frozenset({KEY})]
    assert list(store.connectors()) == []


def test_an_object_stays_while_another_source_has_it() -> None:
    store, _ = filled()
    store.put("named", SECRET)
    store.remove_source("secrets")
    assert isinstance(store.get(KEY), Target)
    store.remove_source("named")
    assert isinstance(store.get(KEY), Unusable)
    assert store.secret(SECRET.key) is None


def test_a_source_has_only_the_identities_of_its_own_objects() -> None:
    store, _ = filled()
    store.put("named", SECRET)
    of_named = store.identities("named")
    assert of_named == {(Secret, SECRET.key)}
    assert store.identities("connectors") == {(Connector, KEY)}
    assert store.identities("never") == set()
    store.put("named", SHARED)
    store.remove("named", Secret, SECRET.key)
    assert of_named == {(Secret, SHARED.key)}, "the view follows changes"


def versioned(token: str, version: str) -> Secret:
    return replace(SECRET, credential=BearerToken(token), resource_version=version)


@pytest.mark.parametrize(
    ("first", "second", "used"),
    [
        pytest.param("9", "10", "second", id="the later one is newer"),
        pytest.param("10", "9", "first", id="the later one is older, although it is greater as text"),
        pytest.param("", "9", "second", id="an unknown version"),
        pytest.param("x9", "9", "second", id="a version that is not a number"),
    ],
)
def test_of_two_watches_the_newer_state_of_a_secret_is_used(first: str, second: str, used: str) -> None:
    store, notified = filled()
    store.replace("secrets", [versioned("first", first)])
    notified.keys.clear()
    store.put("other", versioned("second", second))
    assert usable(store).credential == BearerToken(used)
    assert bool(notified.keys) is (used == "second")


def test_a_watchs_own_older_version_is_used_as_after_a_restored_backup() -> None:
    store, _ = filled()
    store.replace("secrets", [versioned("first", "10")])
    store.put("secrets", versioned("restored", "3"))
    assert usable(store).credential == BearerToken("restored")


def test_a_newer_version_with_equal_content_is_used_without_a_notification() -> None:
    store, notified = filled()
    store.replace("secrets", [versioned("one", "5")])
    store.put("secrets", versioned("one", "9"))
    assert notified.keys == []
    store.put("other", versioned("behind", "7"))
    assert usable(store).credential == BearerToken("one")


def test_removing_an_unknown_source_is_not_an_error() -> None:
    store, notified = filled()
    store.remove_source("never")
    assert notified.keys == []


def test_a_connector_that_references_another_secret_ignores_the_first() -> None:
    store, notified = filled()
    store.put("connectors", replace(CONNECTOR, secret_name="other"))
    notified.keys.clear()
    store.put("secrets", replace(SECRET, credential=None))
    assert notified.keys == []


def test_an_invalid_connector_is_unusable_with_its_reason() -> None:
    store, _ = filled()
    store.put(
        "connectors", InvalidConnector(key=KEY, class_name="k8s", reason="AddressInvalid", message="spec.address: no")
    )
    resolution = store.get(KEY)
    assert isinstance(resolution, Unusable)
    assert resolution.reason == "AddressInvalid"


def test_an_edited_class_replaces_the_built_in_class_until_it_is_deleted() -> None:
    store, notified = filled()
    edited = ConnectorClass(name="k8s", auth_types=(AuthType(name="basic", secret_type="basic"),))
    store.put("classes", edited)
    assert store.get(KEY) is None
    assert store.connector_class("k8s") == edited
    store.remove("classes", ConnectorClass, "k8s")
    assert store.connector_class("k8s") == K8S
    assert isinstance(store.get(KEY), Target)
    assert notified.keys == [frozenset({KEY}), frozenset({KEY})]


def test_shared_cas_have_a_stable_order_and_affect_every_connector() -> None:
    store, notified = filled()
    store.put("cas", replace(SHARED, key=ObjectKey("sys", "z"), ca=b"last"))
    store.put("cas", SHARED)
    store.set_ca_file(b"file")
    store.set_ca_file(b"file")
    assert store.shared_ca == b"shared\nlast\nfile"
    assert usable(store).ca == b"shared\nlast\nfile"
    assert notified.keys == [frozenset({KEY})] * 3
    store.remove_source("cas")
    store.set_ca_file(None)
    assert store.shared_ca is None


def test_the_store_is_synced_after_the_list_of_every_expected_source() -> None:
    store = Store(expected=["connectors"])
    store.expect("secrets")
    assert not store.synced
    store.replace("connectors", [])
    assert not store.synced
    store.remove_source("secrets")
    assert store.synced


def test_a_changed_role_affects_the_connectors_that_reference_it() -> None:
    store, notified = filled()
    limited = replace(CONNECTOR, permissions=Permissions(allow=(RoleEntry(cluster_role="k8s"),)))
    store.put("connectors", limited)
    resolution = store.get(KEY)
    assert isinstance(resolution, Unusable)
    assert resolution.reason == "RoleNotFound"
    role = ClusterRole(name="k8s", rules=(PolicyRule(verbs=("get",)),))
    other = replace(role, name="other")
    notified.keys.clear()
    store.put("roles", role)
    before = usable(store).permissions
    store.put("roles", other)
    assert notified.keys == [frozenset({KEY})]
    assert (store.cluster_role("k8s"), store.object_counts["ClusterRole"]) == (role, 2)
    store.put("roles", replace(role, rules=()))
    assert usable(store).permissions != before
    store.remove("roles", ClusterRole, "k8s")
    assert isinstance(store.get(KEY), Unusable)
    assert store.cluster_role("k8s") is None


def test_objects_are_counted_by_kind() -> None:
    store, _ = filled()
    access = {"AccessPolicy": 0, "AccessRequest": 0, "AccessApproval": 0, "AccessLock": 0}
    assert store.object_counts == {"Connector": 1, "Secret": 1, "ConnectorClass": 1, "ClusterRole": 0, **access}


def test_a_former_subscriber_is_not_notified() -> None:
    store, _ = filled()
    notified = Notifications([])
    unsubscribe = store.subscribe(notified.keys.append)
    unsubscribe()
    store.put("secrets", replace(SECRET, credential=None))
    assert notified.keys == []


def test_a_subscriber_that_unsubscribes_during_a_notification_does_not_affect_others() -> None:
    store, _ = filled()
    unsubscribe = store.subscribe(lambda keys: unsubscribe())
    notified = Notifications([])
    store.subscribe(notified.keys.append)
    store.put("secrets", replace(SECRET, credential=None))
    assert len(notified.keys) == 1


def test_an_unknown_key_is_not_cached() -> None:
    store, _ = filled()
    assert store.get(ObjectKey("a", "later")) is None
    store.put("connectors", replace(CONNECTOR, key=ObjectKey("a", "later")))
    assert isinstance(store.get(ObjectKey("a", "later")), Target)


def test_a_key_that_is_not_served_is_unusable_and_an_outage_does_not_notify() -> None:
    store, notified = filled()
    unknown = ObjectKey("a", "unknown")
    outage, unbound = not_watched("Secret", 600, refused=False), namespace_not_readable("a")
    store.set_not_served(None, outage)
    assert notified.keys == []
    for key in (KEY, unknown):
        resolution = store.get(key)
        assert isinstance(resolution, Unusable)
        assert (resolution.reason, resolution.message) == (outage.reason, outage.message)
    store.set_not_served("a", unbound)
    store.set_not_served("a", unbound)
    assert notified.keys == [frozenset({KEY})]
    assert store.not_served_reason("a") == unbound
    assert store.not_served_reason("b") == outage
    store.set_not_served("a", None)
    store.set_not_served(None, None)
    assert store.not_served == {}
    assert usable(store).address == CONNECTOR.address
    assert store.get(unknown) is None


def test_a_write_of_the_status_does_not_notify() -> None:
    store, notified = filled()
    before = usable(store)
    store.put("connectors", replace(CONNECTOR, resource_version="2"))
    store.replace("connectors", [replace(CONNECTOR, resource_version="3")])
    assert notified.keys == []
    assert usable(store) is before


def test_only_configured_namespaces_are_served() -> None:
    store, _ = filled()
    store.serve_only(["b"])
    assert isinstance(store.get(KEY), Unusable)
    assert not store.serves("a")
    assert store.not_served_reason("b") is None
    store.serve_only(None)
    assert usable(store)


def test_a_source_that_is_no_longer_expected_does_not_block_the_sync() -> None:
    store = Store(expected=["one", "other"])
    store.replace("one", [])
    assert not store.synced
    store.stop_expecting("other")
    assert store.synced


def test_roles_and_bindings_apply_from_the_change_and_do_not_notify() -> None:
    store, rule, me = Store(), AccessRule("use", "connectors", "proxy"), Identity(user="me")
    notified: list[frozenset[ObjectKey]] = []
    store.subscribe(notified.append)
    use = PolicyRule(verbs=("use",), api_groups=("connectors.alauda.io",), resources=("connectors/proxy",))
    key, role = ObjectKey("n", "c"), ObjectKey("n", "r")
    assert not store.bindings.allows(me, rule, key)
    binding = Binding(key=ObjectKey("n", "b"), role=RoleRef("r"), subjects=(Subject(kind="User", name="me"),))
    store.replace("folder", [Role(key=role, rules=(use,)), binding])
    assert store.bindings.allows(me, rule, key)
    bindings = store.bindings
    store.put("folder", Role(key=role, rules=(use,)))
    assert store.bindings is bindings
    store.remove("folder", Role, role)
    assert not store.bindings.allows(me, rule, key)
    store.put("folder", ClusterRole(name="r", rules=(use,)))
    store.put("folder", replace(binding, role=ClusterRoleRef("r")))
    bindings = store.bindings
    store.put("folder", ClusterRole(name="r", rules=(use,)))
    assert store.bindings is bindings
    assert store.bindings.allows(me, rule, key)
    assert notified == []


POLICY = AccessPolicy(key=ObjectKey("a", "p"), uid="p", approval=ApprovalRule(), accounts=(AccountSelector(),))
REQUEST = AccessRequest(key=ObjectKey("a", "r"), uid="r", requester="jane", subject="jane", connector="k8s")
APPROVAL = AccessApproval(
    key=ObjectKey("a", "v"),
    uid="v",
    request_name="r",
    request_uid="r",
    policy_name="p",
    policy_uid="p",
    by="joe",
    is_approved=True,
)
LOCK = AccessLock(key=ObjectKey("a", "l"))
BUILDER = Identity(user="system:serviceaccount:ci:builder")


def test_access_objects_are_indexed_and_their_connectors_reported() -> None:
    store, notified = filled()
    for obj in (POLICY, REQUEST, APPROVAL, LOCK):
        store.put("access", obj)
        assert notified.keys.pop() == frozenset({KEY})
        store.put("access", obj)
        assert notified.keys == []
    assert store.object_counts["AccessApproval"] == 1
    assert store.access.find_entitlement(BUILDER, KEY).policy == "p"
    assert store.access.find_lock(BUILDER, KEY) == LOCK
    store.put("access", Namespace(name="ci", labels={"a": "b"}))
    assert notified.keys.pop() == frozenset({KEY})
    for obj in (LOCK, APPROVAL, REQUEST, POLICY):
        store.remove("access", type(obj), obj.key)
        assert notified.keys.pop() == frozenset({KEY})
    store.remove("access", Namespace, ObjectKey("", "ci"))
    assert not store.access.has_objects


def test_access_objects_of_an_invalid_connector_give_nothing() -> None:
    store, _ = filled()
    store.put("access", POLICY)
    store.put("connectors", InvalidConnector(key=KEY, class_name="k8s", reason="AddressInvalid", message=""))
    assert store.access.find_entitlement(BUILDER, KEY) == NO_ENTITLEMENT


def test_a_change_of_the_admission_is_reported_once() -> None:
    store, notified = filled()
    store.set_admission_enforced_since(5.0)
    assert notified.keys.pop() == frozenset({KEY})
    store.set_admission_enforced_since(5.0)
    assert notified.keys == []
