"""Live exchanges are cut when their Connector is gone or elsewhere, and when their caller loses the right."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from addons.access.live_connections import BATCH_SIZE, MAX_CONCURRENT_REVIEWS, LiveAccess, LiveConnections
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.objects.models import Address, Unusable
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.permissions import PermissionEvaluator, RequestAttributes
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule
from tests.addons.relay.test_inject import target
from tests.fakes.waiting import until

KEY = ObjectKey("n", "a")
TARGET = target("t")
LIST_PODS = RequestAttributes(info=parse_request("GET", "/api/v1/pods", ""))


def lends(resource: str) -> PermissionEvaluator:
    rule = PolicyRule(verbs=("list",), api_groups=("",), resources=(resource,))
    return PermissionEvaluator((BoundRole(label="role", rules=(rule,)),), ())


class FakeConnection:
    def __init__(self, token: str = "t", expires: float | None = None, *, idle: bool = False) -> None:
        self.key = KEY
        granted = Granted(identity=Identity(user="u"), token_expires_at=expires)
        self.live_access = None if idle else LiveAccess(TARGET, token, granted, lambda: LIST_PODS)
        self.cuts: list[str] = []
        self.looks = 0

    def close(self, reason: str) -> None:
        self.cuts.append(reason)

    def close_if_client_gone(self) -> None:
        self.looks += 1


class FakeParts:
    """The store and the access check."""

    revocation_count = 0

    def __init__(self) -> None:
        self.found: Resolution = TARGET
        self.answer: AccessResult = Granted(identity=Identity(user="u"))
        self.asked: list[str] = []

    def get(self, key: ObjectKey) -> Resolution:
        return self.found

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        raise NotImplementedError

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        raise NotImplementedError

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        self.asked.append(token)
        return self.answer


class EndError(Exception):
    """Ends what runs for ever."""


async def test_asks_twice_in_the_time_that_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        if not seconds:
            return
        if len(slept) == 3:
            raise EndError
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    parts = FakeParts()
    with pytest.raises(EndError):
        await streams(parts, FakeConnection()).run()
    assert slept == [15, 15, 15]
    assert parts.asked == ["t"] * 3


async def test_others_have_their_turns_while_many_are_rechecked_and_looked_at() -> None:
    turn = 0
    looks: Counter[int] = Counter()
    asks: Counter[int] = Counter()
    """How many in each turn of others."""

    class Tunnel(FakeConnection):
        def look(self) -> None:
            super().close_if_client_gone()
            looks[turn] += 1

    class Parts(FakeParts):
        async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
            asks[turn] += 1
            return await super().recheck(token, identity, key)

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    parts = Parts()
    many = [Tunnel(str(number)) for number in range(20 * BATCH_SIZE)]
    running = streams(parts, *many)
    running._recheck = 0
    beside = asyncio.ensure_future(others())
    work = asyncio.ensure_future(running.run())
    await until(lambda: len(set(parts.asked)) == len(many))
    work.cancel()
    beside.cancel()
    await asyncio.gather(work, beside, return_exceptions=True)
    assert max(looks.values()) <= BATCH_SIZE
    assert max(asks.values()) <= 2 * MAX_CONCURRENT_REVIEWS
    assert set(parts.asked) == {each.live_access.token for each in many if each.live_access is not None}


def streams(parts: FakeParts, *tunnels: FakeConnection, cut_expired: bool = False) -> LiveConnections:
    found = LiveConnections(parts, parts, recheck=30, cut_expired=cut_expired)
    for each in tunnels:
        found.add(each)
    return found


@pytest.mark.parametrize(
    ("found", "cut"),
    [
        pytest.param(None, True, id="deleted"),
        pytest.param(Unusable(key=KEY, reason="SecretNotFound", message=""), True, id="without its Secret"),
        pytest.param(replace(TARGET, address=Address(host="h", port=444)), True, id="at another address"),
        pytest.param(replace(TARGET, uid="other"), True, id="another object of that name"),
        pytest.param(replace(TARGET, credential=None), False, id="with another token"),
        pytest.param(TARGET, False, id="unchanged"),
        pytest.param(replace(TARGET, permissions=lends("pods")), False, id="limited to what runs"),
        pytest.param(replace(TARGET, permissions=lends("secrets")), True, id="limited to something else"),
        pytest.param(replace(TARGET, impersonation=Impersonation()), True, id="of another account"),
    ],
)
def test_what_runs_is_cut_when_its_connector_is(found: Resolution, cut: bool) -> None:
    parts, live, idle = FakeParts(), FakeConnection(), FakeConnection(idle=True)
    running = streams(parts, live, idle)
    parts.found = found
    running.on_connectors_changed(frozenset({KEY, ObjectKey("n", "other")}))
    assert (bool(live.cuts), bool(idle.cuts)) == (cut, False)


@pytest.mark.parametrize(
    ("answer", "cut"),
    [
        pytest.param(Refused(check="use", reason=""), True, id="refused"),
        pytest.param(Refused(check="token", reason=""), True, id="a token that is revoked"),
        pytest.param(Unavailable(reason=""), False, id="not to be asked"),
        pytest.param(Granted(identity=Identity(user="u")), False, id="granted"),
    ],
)
async def test_a_caller_who_lost_the_right_loses_his_streams(answer: AccessResult, cut: bool) -> None:
    parts, live = FakeParts(), FakeConnection()
    parts.answer = answer
    await streams(parts, live).recheck_all()
    assert bool(live.cuts) is cut


async def test_who_sends_another_token_meanwhile_keeps_his_tunnel() -> None:
    parts, live = FakeParts(), FakeConnection()

    async def refuse(token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        assert live.live_access is not None
        live.live_access = replace(live.live_access, token="another")
        return Refused(check="token", reason="")

    parts.recheck = refuse  # type: ignore[method-assign]  # of a fake, for this test
    await streams(parts, live).recheck_all()
    assert live.cuts == []


async def test_clients_are_looked_at_as_often_as_callers() -> None:
    tunnel = FakeConnection()
    running = LiveConnections(FakeParts(), FakeParts(), recheck=0.01, cut_expired=False)
    running.add(tunnel)
    task = asyncio.ensure_future(running.run())
    await until(lambda: tunnel.looks > 1)
    task.cancel()


async def test_many_streams_of_one_caller_are_one_question() -> None:
    parts = FakeParts()
    await streams(
        parts, FakeConnection("a"), FakeConnection("a"), FakeConnection("b"), FakeConnection("c", idle=True)
    ).recheck_all()
    assert sorted(parts.asked) == ["a", "b"]


@pytest.mark.parametrize("cut", [False, True])
async def test_expiry_cuts_only_where_it_is_asked_for(cut: bool) -> None:
    expired, running, unknown = FakeConnection(expires=1.0), FakeConnection(expires=1e12), FakeConnection()
    await streams(FakeParts(), expired, running, unknown, cut_expired=cut).recheck_all()
    assert (bool(expired.cuts), running.cuts, unknown.cuts) == (cut, [], [])


def test_a_closed_tunnel_is_forgotten() -> None:
    parts, live = FakeParts(), FakeConnection()
    running = streams(parts, live)
    running.remove(live)
    running.remove(live)
    parts.found = None
    running.on_connectors_changed(frozenset({KEY}))
    assert live.cuts == []


def test_what_a_stream_was_admitted_with_shows_no_token() -> None:
    assert "canary" not in repr(FakeConnection("canary").live_access)


def test_the_end_of_the_proxy_cuts_idle_and_live_tunnels() -> None:
    live, idle = FakeConnection(), FakeConnection(idle=True)
    streams(FakeParts(), live, idle).close_all("the proxy ends")
    assert (live.cuts, idle.cuts) == (["the proxy ends"], ["the proxy ends"])


def test_what_runs_by_a_role_that_still_lends_it_goes_on() -> None:
    parts, live = FakeParts(), FakeConnection()
    limited = replace(TARGET, permissions=lends("pods"))
    assert live.live_access is not None
    live.live_access = replace(live.live_access, target=limited)
    running = streams(parts, live)
    parts.found = limited
    running.on_connectors_changed(frozenset({KEY}))
    assert live.cuts == []
    parts.found = TARGET
    running.on_connectors_changed(frozenset({KEY}))
    assert live.cuts == []
    parts.found = replace(TARGET, permissions=lends("configmaps"))
    running.on_connectors_changed(frozenset({KEY}))
    assert live.cuts == ["its Connector does not lend it any more"]
