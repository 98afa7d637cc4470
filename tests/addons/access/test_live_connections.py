"""Live connections are closed when their Connector changes or their caller loses the right."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from addons.access.live_connections import (
    BATCH_SIZE,
    RECHECK_BATCH_SIZE,
    LiveAccess,
    LiveConnections,
)
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.objects.models import Address, Unusable
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.permissions import PermissionEvaluator, RequestAttributes
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule
from tests.addons.relay.test_inject import target
from tests.fakes.virtual_time import run_in_virtual_time
from tests.fakes.waiting import until

KEY = ObjectKey("n", "a")
TARGET = target("t")
LIST_PODS = RequestAttributes(info=parse_request("GET", "/api/v1/pods", ""))


def allow(resource: str) -> PermissionEvaluator:
    rule = PolicyRule(verbs=("list",), api_groups=("",), resources=(resource,))
    return PermissionEvaluator((BoundRole(label="role", rules=(rule,)),), ())


class FakeConnection:
    def __init__(
        self, token: str = "t", expires: float | None = None, *, idle: bool = False, valid_until: float = 0.0
    ) -> None:
        self.key = KEY
        granted = Granted(identity=Identity(user="u"), token_expires_at=expires, valid_until=valid_until)
        self.live_access = None if idle else LiveAccess(TARGET, token, granted, lambda: LIST_PODS)
        self.reasons: list[str] = []
        self.check_count = 0

    def close(self, reason: str) -> None:
        self.reasons.append(reason)

    def close_if_client_gone(self) -> None:
        self.check_count += 1


class FakeParts:
    """Store and access check."""

    revocation_count = 0

    def __init__(self) -> None:
        self.resolution: Resolution = TARGET
        self.result: AccessResult = Granted(identity=Identity(user="u"))
        self.rechecks: list[str] = []

    def get(self, key: ObjectKey) -> Resolution:
        return self.resolution

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        raise NotImplementedError

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        raise NotImplementedError

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        self.rechecks.append(token)
        return self.result


async def recheck_all(running: LiveConnections) -> None:
    async with asyncio.TaskGroup() as tasks:
        await running.start_rechecks(tasks)


@pytest.mark.parametrize("latency", [0.025, 0.05], ids="a review takes {} s".format)
def test_a_revoked_right_is_noticed_within_the_recheck_and_rechecks_are_spread(latency: float) -> None:
    recheck, caller_count = 30, 2000
    started_at: dict[str, list[float]] = {}

    class SlowParts(FakeParts):
        async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
            started_at.setdefault(token, []).append(clock())
            await asyncio.sleep(2 * latency)
            return self.result

    def clock() -> float:
        return asyncio.get_running_loop().time()

    async def run() -> None:
        parts = SlowParts()
        running = LiveConnections(parts, parts, recheck=recheck, cut_expired=False, clock=clock)
        work = asyncio.ensure_future(running.run())
        await asyncio.sleep(1)
        for number in range(caller_count):
            running.add(FakeConnection(str(number), valid_until=clock() + recheck))
        for _ in range(60):
            await asyncio.sleep(1)
            assert running.oldest_check_age <= recheck
        work.cancel()

    run_in_virtual_time(run())
    assert len(started_at) == caller_count
    # A recheck may use reviews that are a third of `recheck` old.
    longest = recheck - recheck / 3 - 2 * latency
    for times in started_at.values():
        assert times[0] < 1 + longest
        assert all(later - earlier <= longest for earlier, later in pairwise((*times, 61.0)))
    rates = Counter(int(each) for times in started_at.values() for each in times)
    assert max(rates.values()) <= 3 * caller_count / (recheck / 2)


async def test_a_caller_with_a_cached_grant_is_rechecked_before_the_grant_is_too_old() -> None:
    parts = FakeParts()
    running = live_connections(
        parts, FakeConnection("old", valid_until=101.0), FakeConnection("new", valid_until=130.0)
    )
    running._clock = lambda: 100.0
    async with asyncio.TaskGroup() as tasks:
        await running.start_rechecks(tasks, due_before=103.0)
    assert parts.rechecks == ["old"]


async def test_the_age_of_the_oldest_check_grows_while_no_check_is_available() -> None:
    parts, now = FakeParts(), [100.0]
    running = live_connections(parts, FakeConnection())
    running._clock = lambda: now[0]
    assert running.oldest_check_age == 0
    await recheck_all(running)
    now[0] = 120.0
    assert running.oldest_check_age == 20
    parts.result = Unavailable(reason="")
    await recheck_all(running)
    assert running.oldest_check_age == 20
    parts.result = Granted(identity=Identity(user="u"))
    await recheck_all(running)
    assert running.oldest_check_age == 0


async def test_rechecks_of_many_connections_let_other_tasks_run() -> None:
    turn = 0
    check_count: Counter[int] = Counter()
    recheck_counts: Counter[int] = Counter()
    """Number of rechecks between two turns of the other task."""

    class CountingConnection(FakeConnection):
        def close_if_client_gone(self) -> None:
            super().close_if_client_gone()
            check_count[turn] += 1

    class CountingParts(FakeParts):
        async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
            recheck_counts[turn] += 1
            return await super().recheck(token, identity, key)

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    parts = CountingParts()
    many = [CountingConnection(str(number)) for number in range(20 * BATCH_SIZE)]
    running = live_connections(parts, *many)
    running._recheck = 0
    other_task = asyncio.ensure_future(others())
    work = asyncio.ensure_future(running.run())
    await until(lambda: len(set(parts.rechecks)) == len(many))
    work.cancel()
    other_task.cancel()
    await asyncio.gather(work, other_task, return_exceptions=True)
    assert max(check_count.values()) <= BATCH_SIZE
    assert max(recheck_counts.values()) <= 2 * RECHECK_BATCH_SIZE
    assert set(parts.rechecks) == {each.live_access.token for each in many if each.live_access is not None}


def live_connections(parts: FakeParts, *connections: FakeConnection, cut_expired: bool = False) -> LiveConnections:
    resolution = LiveConnections(parts, parts, recheck=30, cut_expired=cut_expired)
    for each in connections:
        resolution.add(each)
    return resolution


@pytest.mark.parametrize(
    ("resolution", "closed"),
    [
        pytest.param(None, True, id="deleted"),
        pytest.param(Unusable(key=KEY, reason="SecretNotFound", message=""), True, id="without its Secret"),
        pytest.param(replace(TARGET, address=Address(host="h", port=444)), True, id="at another address"),
        pytest.param(replace(TARGET, uid="other"), True, id="another object of that name"),
        pytest.param(replace(TARGET, credential=None), False, id="with another token"),
        pytest.param(TARGET, False, id="unchanged"),
        pytest.param(replace(TARGET, permissions=allow("pods")), False, id="limited to what runs"),
        pytest.param(replace(TARGET, permissions=allow("secrets")), True, id="limited to something else"),
        pytest.param(replace(TARGET, impersonation=Impersonation()), True, id="of another account"),
    ],
)
def test_live_connections_are_closed_when_their_connector_changes(resolution: Resolution, closed: bool) -> None:
    parts, live, idle = FakeParts(), FakeConnection(), FakeConnection(idle=True)
    running = live_connections(parts, live, idle)
    parts.resolution = resolution
    running.on_connectors_changed(frozenset({KEY, ObjectKey("n", "other")}))
    assert (bool(live.reasons), bool(idle.reasons)) == (closed, False)


@pytest.mark.parametrize(
    ("result", "closed"),
    [
        pytest.param(Refused(check="use", reason=""), True, id="refused"),
        pytest.param(Refused(check="token", reason=""), True, id="a token that is revoked"),
        pytest.param(Unavailable(reason=""), False, id="unavailable"),
        pytest.param(Granted(identity=Identity(user="u")), False, id="granted"),
    ],
)
async def test_connections_of_a_caller_without_the_right_are_closed(result: AccessResult, closed: bool) -> None:
    parts, live = FakeParts(), FakeConnection()
    parts.result = result
    await recheck_all(live_connections(parts, live))
    assert bool(live.reasons) is closed


async def test_a_connection_with_a_new_token_stays_open() -> None:
    parts, live = FakeParts(), FakeConnection()

    async def refuse(token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        assert live.live_access is not None
        live.live_access = replace(live.live_access, token="another")
        return Refused(check="token", reason="")

    parts.recheck = refuse  # type: ignore[method-assign]  # of a fake, for this test
    await recheck_all(live_connections(parts, live))
    assert live.reasons == []


async def test_closed_clients_are_detected_as_often_as_callers_are_rechecked() -> None:
    connection = FakeConnection()
    running = LiveConnections(FakeParts(), FakeParts(), recheck=0.01, cut_expired=False)
    running.add(connection)
    task = asyncio.ensure_future(running.run())
    await until(lambda: connection.check_count > 1)
    task.cancel()


async def test_many_connections_of_one_caller_are_rechecked_once() -> None:
    parts = FakeParts()
    await recheck_all(
        live_connections(
            parts, FakeConnection("a"), FakeConnection("a"), FakeConnection("b"), FakeConnection("c", idle=True)
        )
    )
    assert sorted(parts.rechecks) == ["a", "b"]


@pytest.mark.parametrize("closed", [False, True])
async def test_expired_tokens_close_connections_only_with_cut_expired(closed: bool) -> None:
    expired, running, unknown = FakeConnection(expires=1.0), FakeConnection(expires=1e12), FakeConnection()
    await recheck_all(live_connections(FakeParts(), expired, running, unknown, cut_expired=closed))
    assert (bool(expired.reasons), running.reasons, unknown.reasons) == (closed, [], [])


def test_a_closed_connection_is_removed() -> None:
    parts, live = FakeParts(), FakeConnection()
    running = live_connections(parts, live)
    running.remove(live)
    running.remove(live)
    parts.resolution = None
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == []


def test_the_text_form_of_live_access_shows_no_token() -> None:
    assert "canary" not in repr(FakeConnection("canary").live_access)


def test_close_all_closes_idle_and_active_connections() -> None:
    live, idle = FakeConnection(), FakeConnection(idle=True)
    live_connections(FakeParts(), live, idle).close_all("the proxy ends")
    assert (live.reasons, idle.reasons) == (["the proxy ends"], ["the proxy ends"])


def test_a_connection_that_the_permissions_still_allow_stays_open() -> None:
    parts, live = FakeParts(), FakeConnection()
    limited = replace(TARGET, permissions=allow("pods"))
    assert live.live_access is not None
    live.live_access = replace(live.live_access, target=limited)
    running = live_connections(parts, live)
    parts.resolution = limited
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == []
    parts.resolution = TARGET
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == []
    parts.resolution = replace(TARGET, permissions=allow("configmaps"))
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == ["its Connector no longer allows it"]
