"""Policies, requests and locks applied to the result of an access check, for new requests and for live connections."""

from dataclasses import replace
from email.utils import formatdate

import pytest

from addons.access.entitlements import Entitlements, UseDecision
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.grants.access_grant import Moment
from connector_store.domain.grants.access_index import AccessClock
from connector_store.domain.objects.access_objects import AccountSelector
from connector_store.kube.server_clock import ServerClock
from connector_store.store import Store, StoreObject
from tests.connector_store.domain.grants.access_objects import (
    APPROVAL,
    CI,
    CONNECTOR,
    JANE,
    LOCK,
    NAMESPACE,
    NOW,
    POLICY,
    PROD,
    REQUEST,
)

SOURCE = "test"
CALLER = Granted(identity=JANE, has_right=False)
WITH_RIGHT = Granted(identity=JANE)
NO_OPINION = Refused(check="use", reason="", has_opinion=False, authentication=CALLER)
LET_ALL_IN = replace(POLICY, key=ObjectKey(NAMESPACE, "ci"), uid="p-2", approval=None, accounts=(AccountSelector(),))


class World:
    """A store with access objects, and a clock that tests move."""

    def __init__(self, *objects: StoreObject) -> None:
        self.now = Moment(NOW, 100.0)
        self.store = Store(clock=AccessClock(lambda: self.now.server, lambda: self.now.boot))
        self.store.replace(SOURCE, (CONNECTOR, *objects))
        self.store.set_admission_enforced_since(0.0)
        self.entitlements = Entitlements(self.store.access)

    def authorize(self, access: AccessResult) -> UseDecision:
        return self.entitlements.authorize(access, PROD)

    def close_reason(self, caller: Granted = CALLER, *, by_request: bool = True) -> str:
        (grant,) = self.grants if by_request else (None,)
        return self.entitlements.reauthorize(caller, grant, PROD).reason

    def remember_grants(self) -> None:
        self.grants = self.authorize(NO_OPINION).grants


def approved() -> World:
    world = World(POLICY, REQUEST, APPROVAL)
    world.remember_grants()
    return world


@pytest.mark.parametrize("offset", [-3600.0, 0.0, 3600.0], ids=["an hour behind", "right", "an hour ahead"])
def test_a_grant_runs_to_its_end_with_a_wrong_clock_and_without_the_api_server(offset: float) -> None:
    boot = 100.0
    clock = ServerClock(boot_time=lambda: boot, now=lambda: NOW + boot - 100 + offset)
    clock.observe(formatdate(NOW, usegmt=True), sent_at=boot)
    store = Store(clock=AccessClock(clock.now, lambda: boot))
    store.replace(SOURCE, (CONNECTOR, POLICY, replace(REQUEST, duration=3600.0), APPROVAL))
    store.set_admission_enforced_since(0.0)
    entitlements = Entitlements(store.access)
    # The API server sends no other Date and no other object.
    for seconds, is_in in ((0, True), (3598, True), (3602, False), (7200, False)):
        boot = 100.0 + seconds
        assert isinstance(entitlements.authorize(NO_OPINION, PROD).access, Granted) is is_in, seconds


def test_without_an_index_the_result_stands() -> None:
    entitlements = Entitlements()
    assert entitlements.authorize(NO_OPINION, PROD) == UseDecision(NO_OPINION)
    assert not entitlements.has_objects


def test_a_caller_without_a_right_is_let_in_by_an_approved_request() -> None:
    decision = approved().authorize(NO_OPINION)
    assert decision.access == CALLER
    assert decision.grant is not None
    assert decision.grants == (decision.grant,)


def test_other_results_stand() -> None:
    world = approved()
    denied = Refused(check="use", reason="denied")
    away = Unavailable(reason="away")
    assert world.authorize(denied) == UseDecision(denied)
    assert world.authorize(away) == UseDecision(away)
    assert world.authorize(WITH_RIGHT).access == WITH_RIGHT
    assert world.authorize(WITH_RIGHT).grant is None
    assert len(world.authorize(WITH_RIGHT).grants) == 1
    other = replace(NO_OPINION, authentication=replace(CALLER, identity=Identity(user="sue")))
    assert world.authorize(other).access == other


def test_a_lock_is_found_with_and_without_a_right() -> None:
    world = World(LOCK)
    assert world.authorize(WITH_RIGHT).lock == LOCK
    assert world.authorize(NO_OPINION).lock == LOCK


def test_a_live_connection_stays_open_while_its_grant_holds() -> None:
    world = approved()
    assert world.close_reason() == ""
    assert world.close_reason(WITH_RIGHT) == ""


def test_a_live_connection_is_closed_at_the_end_with_a_reason() -> None:
    world = approved()
    world.now = Moment(NOW + 3600, 3700.0)
    assert world.close_reason() == "its access request team-a/r has ended"
    assert world.close_reason(WITH_RIGHT) == "its access request team-a/r has ended"
    assert world.entitlements.remaining(world.grants[0]) == 0


def test_a_live_connection_is_closed_when_an_object_of_its_grant_goes() -> None:
    for each in (POLICY, REQUEST, APPROVAL):
        world = approved()
        world.store.remove(SOURCE, type(each), each.key)
        assert world.close_reason() == "its access request team-a/r was deleted or is no longer approved"


def test_a_live_connection_is_closed_by_a_lock_with_its_reason() -> None:
    world = approved()
    world.store.put(SOURCE, LOCK)
    assert world.close_reason() == "an AccessLock locks its caller out: stolen laptop"
    assert world.close_reason(WITH_RIGHT, by_request=False) == "an AccessLock locks its caller out: stolen laptop"


def test_a_live_connection_of_an_account_is_closed_when_the_policy_goes() -> None:
    world = World(LET_ALL_IN, POLICY)
    account = Granted(identity=Identity(user=CI), has_right=False)
    assert world.close_reason(account, by_request=False) == ""
    world.store.remove(SOURCE, type(LET_ALL_IN), LET_ALL_IN.key)
    assert world.close_reason(account, by_request=False) == "no AccessPolicy lets its caller use the Connector any more"
    world.store.remove(SOURCE, type(POLICY), POLICY.key)
    assert world.close_reason(account, by_request=False) == "no AccessPolicy lets its caller use the Connector any more"
    assert world.close_reason(WITH_RIGHT, by_request=False) == ""


def test_a_caller_may_be_entitled_by_a_pod_of_its_account() -> None:
    world = approved()
    assert world.store.access.may_be_entitled(JANE, PROD)
    assert not world.store.access.may_be_entitled(Identity(user="sue"), PROD)
    assert not world.store.access.may_be_entitled(JANE, ObjectKey(NAMESPACE, "other"))
    assert not world.store.access.may_be_entitled(JANE, ObjectKey("other", "prod"))
    world.now = Moment(NOW + 3600, 3700.0)
    assert not world.store.access.may_be_entitled(JANE, PROD)
    world.store.put(SOURCE, LET_ALL_IN)
    assert world.store.access.may_be_entitled(Identity(user=CI), PROD)
