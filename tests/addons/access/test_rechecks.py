"""Rechecks are shared, spread over the interval and in time, and one that hangs does not delay the others."""

import asyncio
import gc
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import pytest

from addons.access.rechecks import INTERVAL, MAX_CONCURRENT_RECHECKS, CallerChecks, Check, Rechecks
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import POD_NAME, AccessResult, Granted, Identity, Refused, Unavailable
from tests.fakes.virtual_time import run_in_virtual_time

KEY, OTHER = ObjectKey("n", "a"), ObjectKey("n", "b")
RECHECK = 30.0


class FakeAccess:
    """Access that records when each token and each right is checked. A check takes `latency` seconds."""

    revocation_count = 0

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.token_checks = defaultdict[str, list[float]](list)
        self.use_checks = defaultdict[tuple[str, ObjectKey], list[float]](list)
        self.refused_users: set[str] = set()
        self.hanging_tokens: set[str] = set()

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        raise NotImplementedError

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        raise NotImplementedError

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        self.token_checks[token].append(asyncio.get_running_loop().time())
        if token in self.hanging_tokens:
            await asyncio.sleep(10)
            return Unavailable(reason="")
        await asyncio.sleep(self.latency)
        return Granted(identity=identity)

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        self.use_checks[identity.user, key].append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.latency)
        return Refused(check="use", reason="") if identity.user in self.refused_users else True


class World:
    def __init__(self, access: FakeAccess) -> None:
        self.access = access
        self.refused: list[Check] = []
        self.now = asyncio.get_running_loop().time
        self.rechecks = Rechecks(access, recheck=RECHECK, on_refused=self.on_refused, clock=self.now, now=self.now)
        self.callers: list[CallerChecks] = []

    def on_refused(self, check: Check, refusal: Refused) -> None:
        self.refused.append(check)

    def connect(self, token: str, account: str, key: ObjectKey = KEY, *, valid_for: float = RECHECK) -> CallerChecks:
        identity = Identity(user=account, extra={POD_NAME: (f"pod-{len(self.callers)}",)})
        checks = self.rechecks.get_checks(token, Granted(identity=identity, valid_until=self.now() + valid_for), key)
        self.callers.append(checks)
        return checks

    @property
    def checks(self) -> set[Check]:
        return {check for checks in self.callers for check in checks}

    async def run(self, seconds: float) -> None:
        """Do as `LiveConnections.run` does."""
        end = self.now() + seconds
        async with asyncio.TaskGroup() as tasks:
            while self.now() < end:
                tick_end = self.now() + self.rechecks.tick
                await self.rechecks.start_due(tasks, self.checks, due_before=tick_end)
                await asyncio.sleep(max(0.0, tick_end - self.now()))

    async def run_due(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self.rechecks.start_due(tasks, self.checks)


def longest_gap(times: Iterable[float], start: float, end: float) -> float:
    return max(later - earlier for earlier, later in pairwise((start, *times, end)))


@pytest.mark.parametrize("latency", [0.025, 0.05], ids="a review takes {} s".format)
@pytest.mark.parametrize(("callers", "accounts"), [(5000, 200), (5000, 5000)], ids=str)
def test_5000_callers_are_rechecked_in_time_and_reviews_of_a_right_are_shared(
    latency: float, callers: int, accounts: int
) -> None:
    access, seconds = FakeAccess(latency), 240.0

    async def run() -> None:
        world = World(access)
        for number in range(callers):
            world.connect(f"token-{number}", f"account-{number % accounts}")
        await world.run(seconds)

    run_in_virtual_time(run())
    assert (len(access.token_checks), len(access.use_checks)) == (callers, accounts)
    for times in (*access.token_checks.values(), *access.use_checks.values()):
        assert longest_gap(times, 0.0, seconds) + latency <= RECHECK
    intervals = seconds / (INTERVAL * RECHECK)
    assert sum(map(len, access.use_checks.values())) <= (intervals + 1) * accounts
    assert sum(map(len, access.token_checks.values())) <= (intervals + 1) * callers
    rates = Counter(int(each) for times in access.token_checks.values() for each in times)
    assert max(rates.values()) <= 2 * callers / RECHECK


def test_a_token_for_several_connectors_is_checked_once() -> None:
    async def run() -> None:
        world = World(FakeAccess())
        for key in (KEY, OTHER):
            world.connect("token", "account", key)
        await world.run_due()
        assert {each: len(times) for each, times in world.access.token_checks.items()} == {"token": 1}
        assert set(world.access.use_checks) == {("account", KEY), ("account", OTHER)}

    run_in_virtual_time(run())


def test_a_refused_right_is_reported_once_for_all_its_callers() -> None:
    async def run() -> None:
        world = World(FakeAccess())
        first, second, other = (world.connect(*each) for each in (("1", "a"), ("2", "a"), ("3", "b")))
        world.access.refused_users = {"a"}
        await world.run_due()
        assert world.refused == [first.use]
        assert first.use is second.use
        assert first.use is not other.use
        assert first.use.keys == {KEY}

    run_in_virtual_time(run())


def test_a_check_without_callers_is_dropped() -> None:
    async def run() -> None:
        world = World(FakeAccess())
        kept = world.connect("1", "a")
        assert world.connect("1", "a") == kept
        world.callers.clear()
        del kept
        gc.collect()
        assert not world.rechecks._checks

    run_in_virtual_time(run())


@pytest.mark.parametrize(
    ("valid_for", "due"),
    [
        pytest.param(3.0, 0.0, id="at once, if the grant is almost as old as the interval"),
        pytest.param(30.0, 27.0, id="within the interval, if the grant is new"),
    ],
)
def test_the_first_recheck_is_due_before_the_grant_is_too_old(valid_for: float, due: float) -> None:
    async def run() -> None:
        world = World(FakeAccess())
        for number in range(200):
            checks = world.connect(str(number), str(number), valid_for=valid_for)
            assert all(0 <= check.due_at <= due for check in checks)
            assert checks.token.checked_at == valid_for - RECHECK

    run_in_virtual_time(run())


def test_a_check_starts_before_it_is_due() -> None:
    access = FakeAccess()

    async def run() -> None:
        world = World(access)
        world.connect("1", "a").token.due_at = world.rechecks.tick - 0.1
        await world.run(world.rechecks.tick)

    run_in_virtual_time(run())
    assert access.token_checks == {"1": [0.0]}


def test_late_rechecks_keep_their_place_in_the_interval() -> None:
    access = FakeAccess()

    async def run() -> None:
        world = World(access)
        checks = [world.connect(str(number), "account").token for number in range(3)]
        for check, due_at in zip(checks, (-40.0, -1.0, 1.0), strict=True):
            check.due_at = due_at
        await world.run_due()
        assert [check.due_at for check in checks] == [-40.0 + 2 * 28.5, -1.0 + 28.5, 1.0 + 28.5]

    run_in_virtual_time(run())


def test_rechecks_that_hang_delay_the_others_by_less_than_a_second() -> None:
    access = FakeAccess(latency=0.01)
    access.hanging_tokens = {str(number) for number in range(1000)}

    async def run() -> None:
        world = World(access)
        for number in range(1300):
            world.connect(str(number), "account")
        await world.run(120)

    run_in_virtual_time(run())
    for number in range(1000, 1300):
        assert longest_gap(access.token_checks[str(number)], 0.0, 120.0) <= RECHECK


async def test_rechecks_let_other_tasks_run() -> None:
    turn, counts = 0, Counter[int]()

    class CountingAccess(FakeAccess):
        async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
            counts[turn] += 1
            return Granted(identity=identity)

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    world = World(CountingAccess())
    for number in range(3000):
        world.connect(str(number), "account", valid_for=0.0)
    task = asyncio.ensure_future(others())
    await world.run_due()
    task.cancel()
    assert counts.total() == 3000
    assert max(counts.values()) <= 2 * MAX_CONCURRENT_RECHECKS


def test_the_text_form_of_a_check_shows_no_token() -> None:
    async def run() -> None:
        checks = World(FakeAccess()).connect("canary", "a")
        assert "canary" not in repr(checks)

    run_in_virtual_time(run())
