"""The index of access objects: what a caller may use now, who is locked out, and what a change affects."""

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.label_selector import ObjectSelector
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.grants import access_index
from connector_store.domain.grants.access_grant import AccessGrant, Moment, NotGranted, judge_request
from connector_store.domain.grants.access_index import (
    CLOCK_INTERVAL,
    NO_ENTITLEMENT,
    NOTHING,
    AccessClock,
    AccessIndex,
    Entitlement,
    Scope,
)
from connector_store.domain.objects.access_objects import (
    AccessObject,
    AccessRequest,
    AccountSelector,
    Namespace,
    PodReference,
    TaskCheck,
)
from connector_store.domain.objects.models import Connector
from tests.connector_store.domain.grants.access_objects import (
    APPROVAL,
    CI,
    CONNECTOR,
    EDIT,
    JANE,
    LOCK,
    NAMESPACE,
    NOW,
    POLICY,
    PROD,
    REQUEST,
    in_pod,
)

SYSTEM = "connectors-system"


class World:
    """An index with a Connector and a clock that tests move."""

    def __init__(self, *objects: AccessObject) -> None:
        self.connectors: dict[ObjectKey, Connector] = {PROD: CONNECTOR}
        self.now = Moment(NOW, 100.0)
        self.index = AccessIndex(self.connectors.get, clock=AccessClock(lambda: self.now.server, lambda: self.now.boot))
        self.index.system_namespace = SYSTEM
        self.index.set_enforced_since(0.0)
        for each in objects:
            self.put(each)

    def put(self, obj: AccessObject) -> Scope:
        return self.index.set(type(obj), key_of(obj), obj)

    def remove(self, obj: AccessObject) -> Scope:
        return self.index.set(type(obj), key_of(obj), None)

    def grants(self, identity: Identity = JANE) -> tuple[AccessGrant, ...]:
        return self.index.find_entitlement(identity, PROD).grants

    def pass_time(self, *, server: float = 0.0, boot: float = 0.0) -> None:
        self.now = Moment(self.now.server + server, self.now.boot + boot)


def key_of(obj: AccessObject) -> ObjectKey:
    return ObjectKey("", obj.name) if isinstance(obj, Namespace) else obj.key


APPROVED: Iterable[AccessObject] = (POLICY, REQUEST, APPROVAL)


def test_a_namespace_without_objects_gives_nothing() -> None:
    world = World()
    assert world.index.find_entitlement(JANE, PROD) is NO_ENTITLEMENT
    assert not world.index.has_objects
    assert world.index.find_lock(JANE, PROD) is None
    assert world.index.counts == {"AccessPolicy": 0, "AccessRequest": 0, "AccessApproval": 0, "AccessLock": 0}


def test_an_approved_request_gives_a_grant_until_its_end() -> None:
    world = World(*APPROVED)
    (grant,) = world.grants()
    assert grant.request == REQUEST.key
    assert world.index.find_entitlement(JANE, PROD) != NO_ENTITLEMENT
    assert world.grants(Identity(user="joe")) == ()
    world.pass_time(server=3599, boot=3599)
    assert world.grants() == (grant,)
    assert world.index.remaining(grant) == 1
    world.pass_time(server=1, boot=1)
    assert world.grants() == ()
    assert world.index.remaining(grant) == 0


def test_a_grant_ends_although_the_clock_of_the_api_server_is_set_back() -> None:
    world = World(*APPROVED)
    world.pass_time(server=-7200, boot=3600)
    assert world.grants() == ()


@pytest.mark.parametrize("index", [0, 1, 2], ids=["the policy", "the request", "the approval"])
def test_a_grant_ends_with_each_of_its_objects(index: int) -> None:
    world = World(*APPROVED)
    assert world.grants()
    assert world.remove(tuple(APPROVED)[index]).contains(PROD)
    assert world.grants() == ()
    assert world.put(tuple(APPROVED)[index]).contains(PROD)
    assert world.grants()


def test_a_grant_ends_with_its_connector() -> None:
    world = World(*APPROVED)
    assert world.grants()
    del world.connectors[PROD]
    world.index.on_connector_changed(PROD)
    assert world.grants() == ()
    world.connectors[PROD] = replace(CONNECTOR, is_deleted=True)
    world.index.on_connector_changed(PROD)
    assert world.grants() == ()


def test_a_grant_ends_when_the_admission_policies_are_not_in_force() -> None:
    world = World(*APPROVED)
    assert world.grants()
    world.index.set_enforced_since(None)
    assert world.grants() == ()
    world.index.set_enforced_since(NOW + 1)
    assert world.grants() == ()


def test_a_grant_of_a_pod_is_for_its_tokens() -> None:
    pod_request = replace(
        REQUEST,
        subject=CI,
        requester=CI,
        pod=PodReference(key=ObjectKey("ci", "p"), uid="pod-1"),
    )
    world = World(POLICY, pod_request, APPROVAL)
    assert world.grants(in_pod("pod-1"))
    assert world.grants(in_pod("pod-2")) == ()
    assert world.grants(Identity(user=CI)) == ()


def test_several_grants_of_one_caller_end_one_by_one() -> None:
    second = replace(REQUEST, key=ObjectKey(NAMESPACE, "r2"), uid="r-2", duration=60.0)
    second_approval = replace(APPROVAL, key=ObjectKey(NAMESPACE, "a2"), uid="a-2", request_name="r2", request_uid="r-2")
    world = World(*APPROVED, second, second_approval)
    assert {grant.request.name for grant in world.grants()} == {"r", "r2"}
    world.pass_time(server=60, boot=60)
    assert [grant.request.name for grant in world.grants()] == ["r"]
    assert world.index.counts == {"AccessPolicy": 1, "AccessRequest": 2, "AccessApproval": 2, "AccessLock": 0}


def test_a_request_says_why_it_is_not_granted() -> None:
    world = World(POLICY, REQUEST)
    judgement = world.index.judge(REQUEST)
    assert isinstance(judgement, NotGranted)
    assert judgement.reason == "Pending"
    world.put(APPROVAL)
    assert isinstance(world.index.judge(REQUEST), AccessGrant)
    assert isinstance(world.index.judge(replace(REQUEST, key=ObjectKey("other", "r"))), NotGranted)


def test_a_request_is_decided_by_somebody_else() -> None:
    world = World(POLICY, REQUEST)
    assert not world.index.is_decided(REQUEST)
    world.put(replace(APPROVAL, by=REQUEST.requester))
    assert not world.index.is_decided(REQUEST)
    world.put(APPROVAL)
    assert world.index.is_decided(REQUEST)
    assert not world.index.is_decided(replace(REQUEST, key=ObjectKey("other", "r")))


def test_the_policies_whose_check_can_approve_a_request_are_found_by_name() -> None:
    pod = PodReference(key=ObjectKey("ci", "p"), uid="pod-1")
    request = replace(REQUEST, pod=pod)
    checked = replace(POLICY, task_check=TaskCheck())
    second = replace(checked, key=ObjectKey(NAMESPACE, "a"), uid="p-2")
    narrow = replace(checked, key=ObjectKey(NAMESPACE, "b"), connector=ObjectSelector(names=frozenset({"other"})))
    broken = replace(checked, key=ObjectKey(NAMESPACE, "c"), problems=("x",))
    without_check = replace(POLICY, key=ObjectKey(NAMESPACE, "d"))
    world = World(without_check, request)
    assert not world.index.has_task_checks
    assert world.index.find_checks(request) == ()
    for each in (checked, second, narrow, broken):
        world.put(each)
    assert world.index.has_task_checks
    assert world.index.find_checks(request) == (second, checked)
    for not_checkable in (
        replace(request, pod=None),
        replace(request, pod=replace(pod, uid="")),
        replace(request, roles=(EDIT,)),
        replace(request, connector="other"),
        replace(request, key=ObjectKey("elsewhere", "r")),
    ):
        assert world.index.find_checks(not_checkable) == ()
    world.connectors[PROD] = replace(CONNECTOR, is_deleted=True)
    assert world.index.find_checks(request) == ()


def test_the_requests_for_a_connector_are_found() -> None:
    other = replace(REQUEST, key=ObjectKey(NAMESPACE, "r2"), uid="r-2", connector="other")
    world = World(REQUEST, other)
    assert world.index.requests_for(PROD) == (REQUEST.key,)
    assert world.index.requests_for(ObjectKey("elsewhere", "prod")) == ()


def test_the_requests_of_a_subject_are_found() -> None:
    other = replace(REQUEST, key=ObjectKey(NAMESPACE, "r2"), uid="r-2", connector="other")
    index = World(REQUEST, other, replace(REQUEST, key=ObjectKey(NAMESPACE, "r3"), uid="r-3", subject="ann")).index
    assert tuple(index.requests_of(NAMESPACE, REQUEST.subject)) == (REQUEST, other)
    index.set(AccessRequest, REQUEST.key, replace(REQUEST, subject="ann"))
    assert tuple(index.requests_of(NAMESPACE, REQUEST.subject)) == (other,)
    assert tuple(index.requests_of("elsewhere", REQUEST.subject)) == ()


def test_a_decision_does_not_judge_pending_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who creates thousands of requests must not delay the event loop of the proxy."""
    pending = [replace(REQUEST, key=ObjectKey(NAMESPACE, f"p-{n}"), uid=f"p-{n}") for n in range(10_000)]
    world = World(POLICY, REQUEST, APPROVAL, *pending)
    judged: list[AccessRequest] = []

    def judge(request: AccessRequest, *arguments: Any, **options: Any) -> AccessGrant | NotGranted:
        judged.append(request)
        return judge_request(request, *arguments, **options)

    monkeypatch.setattr(access_index, "judge_request", judge)
    assert world.index.find_entitlement(Identity(user=REQUEST.subject), PROD) != NO_ENTITLEMENT
    assert judged == [REQUEST]


def test_a_default_permission_follows_the_labels_of_the_namespace() -> None:
    policy = replace(
        POLICY,
        accounts=(AccountSelector(namespaces=ObjectSelector(labels=(("project", "a"),))),),
        approval=None,
    )
    world = World(policy)
    builder = Identity(user=CI)
    assert world.index.find_entitlement(builder, PROD) == NO_ENTITLEMENT
    assert world.put(Namespace(name="ci", labels={"project": "a"})) == Scope(None)
    assert world.index.find_entitlement(builder, PROD) == Entitlement("on-call", ())
    world.put(Namespace(name="ci", labels={"project": "b"}))
    assert world.index.find_entitlement(builder, PROD) == NO_ENTITLEMENT
    world.put(Namespace(name="ci", labels={"project": "a"}))
    world.remove(Namespace(name="ci"))
    assert world.index.find_entitlement(builder, PROD) == NO_ENTITLEMENT


def test_the_labels_of_a_namespace_affect_nothing_without_policies() -> None:
    assert World().put(Namespace(name="ci", labels={"a": "b"})) == NOTHING
    assert not NOTHING.contains(PROD)


def test_a_lock_is_found_for_the_connector_and_the_caller() -> None:
    jane_only = replace(LOCK, key=ObjectKey(SYSTEM, "j"), users=frozenset({"jane"}), until=NOW + 60)
    world = World(jane_only)
    assert world.index.find_lock(JANE, PROD) is jane_only
    assert world.index.find_lock(Identity(user="joe"), PROD) is None
    assert world.index.find_lock(JANE, ObjectKey(NAMESPACE, "none")) is None
    world.pass_time(server=60)
    assert world.index.find_lock(JANE, PROD) is None
    assert world.put(LOCK) == Scope(NAMESPACE)
    assert world.index.find_lock(JANE, PROD) is LOCK
    world.index.exempt_group = "dev"
    assert world.index.find_lock(JANE, PROD) is None
    world.index.exempt_group = ""
    assert world.remove(LOCK) == Scope(NAMESPACE)
    assert world.remove(jane_only) == Scope(None)
    assert world.index.find_lock(JANE, PROD) is None


def test_the_current_locks_are_those_that_have_not_ended() -> None:
    ending = replace(LOCK, key=ObjectKey(SYSTEM, "a"), until=NOW + 60)
    world = World(LOCK, ending)
    assert world.index.current_locks() == (ending, LOCK)
    world.pass_time(server=60)
    assert world.index.current_locks() == (LOCK,)


def test_a_lock_follows_a_changed_connector() -> None:
    world = World(replace(LOCK, connector=ObjectSelector(labels=(("env", "prod"),))))
    assert world.index.find_lock(JANE, PROD) is not None
    world.connectors[PROD] = replace(CONNECTOR, labels={})
    world.index.on_connector_changed(PROD)
    assert world.index.find_lock(JANE, PROD) is None
    world.index.on_connector_changed(ObjectKey("elsewhere", "a"))


def test_a_change_affects_only_its_connectors() -> None:
    world = World(*APPROVED)
    other = ObjectKey(NAMESPACE, "other")
    for scope in (world.put(REQUEST), world.put(APPROVAL), world.remove(APPROVAL), world.remove(REQUEST)):
        assert scope.contains(PROD)
        assert not scope.contains(other)
        assert not scope.contains(ObjectKey("team-b", "prod"))
    assert world.put(replace(POLICY, uid="p-9")).contains(other)
    moved = replace(REQUEST, connector="other")
    world.put(REQUEST)
    assert world.put(moved).names == frozenset({"prod", "other"})
    assert world.put(replace(APPROVAL, request_name="none")).names == frozenset()
    assert world.put(replace(APPROVAL, uid="a-9")).names == frozenset({"other"})


def test_an_index_without_objects_keeps_nothing() -> None:
    world = World(*APPROVED, LOCK)
    world.grants()
    for each in (*APPROVED, LOCK):
        world.remove(each)
    for each in (*APPROVED, LOCK):
        world.remove(each)
    index = world.index
    assert (index._namespaces, index._locks, index._locks_by_connector, index._first_seen_at) == ({}, {}, {}, {})


def test_results_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_index, "MAX_CACHED_RESULTS", 3)
    world = World(*APPROVED)
    for number in range(10):
        world.grants(Identity(user=f"user-{number}"))
        assert len(world.index._namespaces[NAMESPACE].results) <= 3


def many(number: int) -> list[AccessObject]:
    """A request of another user with its approval."""
    name, user = f"r-{number}", f"user-{number}"
    return [
        replace(REQUEST, key=ObjectKey(NAMESPACE, name), uid=name, requester=user, subject=user),
        replace(APPROVAL, key=ObjectKey(NAMESPACE, name), uid=f"a-{name}", request_name=name, request_uid=name),
    ]


def test_a_grant_takes_at_most_4_kb() -> None:
    world = World(POLICY)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500):
            for each in many(number):
                world.put(each)
            assert world.grants(Identity(user=f"user-{number}"))
        size = (tracemalloc.get_traced_memory()[0] - before) / 500
    finally:
        tracemalloc.stop()
    assert size < 4096


def test_a_corrected_clock_of_the_api_server_ends_a_grant_soon() -> None:
    world = World(*APPROVED)
    assert world.grants()
    world.pass_time(server=3600)
    assert world.grants()
    world.pass_time(boot=CLOCK_INTERVAL)
    assert world.grants() == ()


def test_the_first_grant_ends_last() -> None:
    second = replace(REQUEST, key=ObjectKey(NAMESPACE, "r2"), uid="r-2", duration=7200.0)
    second_approval = replace(APPROVAL, key=ObjectKey(NAMESPACE, "a2"), uid="a-2", request_name="r2", request_uid="r-2")
    world = World(*APPROVED, second, second_approval)
    assert [grant.request.name for grant in world.grants()] == ["r2", "r"]


def test_a_caller_may_be_entitled_with_a_token_of_whatever_pod() -> None:
    pod_request = replace(REQUEST, subject=CI, pod=PodReference(key=ObjectKey("ci", "p"), uid="pod-1"))
    world = World(POLICY, pod_request, APPROVAL)
    assert world.index.may_be_entitled(Identity(user=CI), PROD)
    assert not world.index.may_be_entitled(JANE, PROD)
    assert not world.index.may_be_entitled(JANE, ObjectKey(NAMESPACE, "none"))
    assert not world.index.may_be_entitled(JANE, ObjectKey("none", "prod"))
    world.pass_time(server=3600)
    assert not world.index.may_be_entitled(Identity(user=CI), PROD)
    world.put(replace(POLICY, accounts=(AccountSelector(),)))
    assert world.index.may_be_entitled(Identity(user=CI), PROD)


def test_the_other_approvals_of_a_request_stay_when_one_is_deleted() -> None:
    second = replace(APPROVAL, key=ObjectKey(NAMESPACE, "a2"), uid="a-2", by="sue", created_at=NOW + 5)
    world = World(*APPROVED, second)
    assert world.grants()[0].approved_by == ("joe",)
    world.remove(APPROVAL)
    assert world.grants()[0].approved_by == ("sue",)


def test_a_new_time_of_the_admission_is_a_change() -> None:
    world = World(LOCK)
    assert world.index.has_locks
    assert world.index.set_enforced_since(5.0)
    assert not world.index.set_enforced_since(5.0)
    assert not World().index.has_locks
