from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.access.budgets import Budgets
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.limits import (
    CONNECTOR_FACTOR,
    NAMESPACE_FACTOR,
    Exceeded,
    Limits,
    Spending,
    plan_spending,
)
from connector_store.domain.permissions.request_attributes import RequestAttributes

KEY = ObjectKey("team-a", "k8s")
PODS = "/api/v1/namespaces/web/pods"


def account(number: int, namespace: str = "web") -> str:
    return f"system:serviceaccount:{namespace}:{number}"


def spending(limits: Limits, user: str = "jane", method: str = "GET", target: str = PODS, uid: str = "1") -> Spending:
    return plan_spending(limits, KEY, uid, user, RequestAttributes(info=parse_request(method, target, "")))


class World:
    def __init__(self, max_buckets: int = 1000) -> None:
        self.now = 0.0
        self.budgets = Budgets(max_buckets=max_buckets, now=lambda: self.now)

    def send(self, each: Spending) -> Exceeded | None:
        """Count a request if it is within its limits."""
        exceeded = self.budgets.find_exceeded(each)
        if exceeded is None:
            self.budgets.charge(each)
        return exceeded

    def count(self, each: Spending, tries: int) -> int:
        """Return the number of requests that pass."""
        return sum(self.send(each) is None for _ in range(tries))


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.integers(0, 6), st.sampled_from(["a", "b"]), st.sampled_from(["GET", "DELETE"])),
        max_size=80,
    ),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_for_every_sequence_each_scope_gets_at_most_its_burst_and_its_refill(
    requests: list[tuple[float, int, str, str]], rate: int, extra: int
) -> None:
    world, passed = World(), Counter[tuple[str, str, str]]()
    limits = Limits(requests_per_second=rate, burst=rate + extra, deletes_per_hour=rate)
    for pause, number, namespace, method in requests:
        world.now += pause
        each = spending(limits, account(number, namespace), method, f"{PODS}/a")
        if world.send(each) is None:
            passed.update((spent.field, scope.kind, scope.name) for spent in each.rates for scope in each.scopes)
    for (field, kind, _), count in passed.items():
        factor = {"": 1, "namespace": NAMESPACE_FACTOR, "connector": CONNECTOR_FACTOR}[kind]
        burst, per_second = (rate + extra, rate) if field == "requestsPerSecond" else (rate, rate / 3600)
        assert count <= factor * (burst + per_second * world.now) + 1e-6


def test_a_caller_in_a_loop_leaves_the_limit_of_others() -> None:
    world, limits = World(), Limits(requests_per_second=2, burst=3)
    assert world.count(spending(limits, account(1)), 100) == 3
    assert world.count(spending(limits, account(2)), 100) == 3
    world.now = 1.0
    assert world.count(spending(limits, account(1)), 100) == 2


def test_several_accounts_of_a_namespace_share_its_limit_and_leave_that_of_other_namespaces() -> None:
    world, limits = World(), Limits(requests_per_second=2)
    assert sum(world.count(spending(limits, account(number)), 9) for number in range(50)) == 2 * NAMESPACE_FACTOR
    exceeded = world.send(spending(limits, account(51)))
    assert exceeded is not None
    assert (exceeded.scope.kind, exceeded.scope.name, exceeded.wait) == ("namespace", "web", 0.125)
    assert world.count(spending(limits, account(1, "other")), 9) == 2


def test_all_callers_share_the_limit_of_the_connector() -> None:
    world, limits = World(), Limits(requests_per_second=2)
    assert sum(world.count(spending(limits, f"user-{number}"), 9) for number in range(50)) == 2 * CONNECTOR_FACTOR
    exceeded = world.send(spending(limits, "another"))
    assert exceeded is not None
    assert exceeded.scope.kind == "connector"


def test_a_connector_with_another_uid_or_limit_has_its_own_counts() -> None:
    world, limits = World(), Limits(requests_per_second=2)
    assert [world.count(spending(limits, uid=uid), 9) for uid in ("1", "2", "1")] == [2, 2, 0]
    assert world.count(spending(Limits(requests_per_second=3)), 9) == 3


def test_a_refused_request_counts_against_nothing() -> None:
    world, limits = World(), Limits(requests_per_second=9, deletes_per_hour=1)
    assert world.count(spending(limits, method="DELETE", target=f"{PODS}/a"), 50) == 1
    assert world.count(spending(limits), 50) == 8


def test_the_longest_wait_is_told() -> None:
    world, limits = World(), Limits(requests_per_second=1, writes_per_minute=1, deletes_per_hour=1)
    each = spending(limits, method="DELETE", target=f"{PODS}/a")
    assert world.send(each) is None
    exceeded = world.send(each)
    assert exceeded is not None
    assert (exceeded.rate.field, exceeded.scope.kind, exceeded.wait) == ("deletesPerHour", "", 3600.0)


@pytest.mark.parametrize("limits", [Limits(writes_per_minute=0), Limits(writes_per_minute=9)])
def test_a_limit_of_0_has_no_wait(limits: Limits) -> None:
    world = World()
    exceeded = world.send(spending(limits, method="DELETE"))
    assert exceeded is not None
    assert (exceeded.rate.amount, exceeded.wait, len(world.budgets)) == (0, None, 0)


def test_sessions_are_counted_until_they_are_closed() -> None:
    world, limits = World(), Limits(sessions=1)
    first, other = (spending(limits, account(number), target=f"{PODS}/a/exec") for number in (1, 2))
    for each in (first, other):
        assert world.send(each) is None
        world.budgets.open_session(each)
    exceeded = world.send(first)
    assert exceeded is not None
    assert (exceeded.rate.field, exceeded.scope, exceeded.wait) == ("sessions", first.scopes[0], None)
    world.budgets.close_session(first)
    assert world.send(first) is None
    world.budgets.close_session(other)
    assert not world.budgets._session_counts


def test_sessions_of_several_accounts_are_bounded_together() -> None:
    world, limits = World(), Limits(sessions=1)
    opened = 0
    for number in range(20):
        each = spending(limits, account(number), target=f"{PODS}/a/exec")
        if world.send(each) is None:
            world.budgets.open_session(each)
            opened += 1
    assert opened == NAMESPACE_FACTOR


def test_the_table_is_bounded_and_forgets_only_full_buckets() -> None:
    world, limits = World(max_buckets=20), Limits(deletes_per_hour=1)
    deletions = [spending(limits, f"user-{number}", "DELETE", f"{PODS}/a") for number in range(100)]
    assert world.send(deletions[0]) is None
    for each in deletions:
        world.budgets.find_exceeded(each)
    assert len(world.budgets) <= 20
    assert world.send(deletions[0]) is not None, "its bucket is not full"


def test_beyond_the_bound_new_callers_share_one() -> None:
    world, limits = World(max_buckets=5), Limits(requests_per_second=1)
    passed = [world.send(spending(limits, f"user-{number}")) is None for number in range(16)]
    assert passed == [True] * 5 + [False] * 11, "4 of their own, next to that of the Connector, and one that is shared"
    world.now = 2.0
    assert world.send(spending(limits, "user-99")) is None, "the buckets are full again, and so they are evicted"


def test_even_the_shared_ones_are_bounded() -> None:
    world, limits = World(max_buckets=4), Limits(requests_per_second=1)
    results = [world.send(spending(limits, "jane", uid=str(number))) for number in range(20)]
    assert len(world.budgets) <= 8
    assert results[-1] is not None
    assert results[-1].wait == 1.0
