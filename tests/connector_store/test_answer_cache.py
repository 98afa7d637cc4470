"""Answers of access checks are cached as long as they are valid, and concurrent checks share one."""

import asyncio
import math
from dataclasses import replace

import pytest

from connector_store import answer_cache
from connector_store.answer_cache import AnswerCache, Grant, combine
from connector_store.domain.callers.access import Granted, Identity, Refused, Unavailable
from connector_store.single_flight import SingleFlight
from tests.fakes.waiting import until

REFUSED = Refused(check="use", reason="no")
UNAVAILABLE = Unavailable(reason="away")
OUTAGE = Unavailable(reason="away", is_outage=True)


class World:
    """A check with a set answer, a cache in front of it, and a clock."""

    def __init__(
        self,
        *,
        refusal_ttl: float = 3.0,
        outage_grace: float = 0.0,
        max_grants: int = 10,
        max_refusals: int = 10,
        expires_at: float = math.inf,
    ) -> None:
        self.now = 1000.0
        self.answer: str | Refused | Unavailable = "yes"
        self.checked_keys: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cache = AnswerCache[str, str](
            SingleFlight(max_in_flight=10, description="checks"),
            ttl=30.0,
            refusal_ttl=refusal_ttl,
            outage_grace=outage_grace,
            max_grants=max_grants,
            max_refusals=max_refusals,
            expires_at=lambda value: expires_at,
            clock=lambda: self.now,
        )

    async def _check(self, key: str) -> str | Refused | Unavailable:
        self.checked_keys.append(key)
        await self.gate.wait()
        return self.answer

    async def ask(self, key: str = "a") -> Grant[str] | Refused | Unavailable:
        return await self.cache.ask(key, lambda: self._check(key))

    async def renew(self, key: str = "a") -> Grant[str] | Refused | Unavailable:
        return await self.cache.renew(key, lambda: self._check(key))


async def test_a_refusal_of_an_entitled_caller_is_cached_as_long_as_a_grant() -> None:
    world = World()
    world.answer = replace(REFUSED, has_opinion=False, is_entitled=True)
    await world.ask()
    world.now += 29.9
    assert world.cache.get("a") == world.answer
    world.now += 0.1
    assert world.cache.get("a") is None


def test_a_refusal_without_an_opinion_gets_the_caller() -> None:
    caller = Grant(Granted(identity=Identity(user="jane"), token_expires_at=5.0), 0.0, 9.0)
    result = combine(caller, replace(REFUSED, has_opinion=False))
    assert isinstance(result, Refused)
    assert result.authentication == replace(caller.value, has_right=False)
    assert combine(caller, REFUSED) == REFUSED


async def test_a_grant_is_cached_from_the_start_of_its_check_on() -> None:
    world = World()
    world.gate.clear()
    asked = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.now += 10
    world.gate.set()
    assert await asked == Grant("yes", 1000.0, 1030.0)
    world.now = 1029.9
    assert await world.ask() == world.cache.get("a") == Grant("yes", 1000.0, 1030.0)
    world.now = 1030.0
    assert world.cache.get("a") is None
    await world.ask()
    assert world.checked_keys == ["a", "a"]


async def test_a_grant_is_not_valid_after_its_own_expiry() -> None:
    world = World(expires_at=1005.0)
    assert await world.ask() == Grant("yes", 1000.0, 1005.0)
    world.now = 1005.0
    assert world.cache.get("a") is None


@pytest.mark.parametrize(
    ("ttl", "checks"), [pytest.param(3.0, 1, id="for its time"), pytest.param(0.0, 2, id="never, if that is 0")]
)
async def test_a_refusal_is_cached(ttl: float, checks: int) -> None:
    world = World(refusal_ttl=ttl)
    world.answer = REFUSED
    assert await world.ask() == await world.ask() == REFUSED
    assert len(world.checked_keys) == checks
    world.now += 3
    world.answer = "yes"
    assert isinstance(await world.ask(), Grant)


async def test_an_unavailable_check_is_not_cached_and_replaces_nothing() -> None:
    world = World()
    grant = await world.ask()
    world.answer = UNAVAILABLE
    assert await world.renew() == UNAVAILABLE
    assert world.cache.get("a") == grant
    assert await world.ask("b") == UNAVAILABLE
    assert world.cache.get("b") is None
    assert world.cache.refusal_count == 0


async def test_a_refusal_revokes_the_grant_and_is_counted() -> None:
    world = World()
    await world.ask()
    world.answer = REFUSED
    assert await world.renew() == world.cache.get("a") == REFUSED
    assert world.cache.refusal_count == 1


async def test_a_grant_ends_the_refusal_before_it() -> None:
    world = World()
    world.answer = REFUSED
    await world.ask()
    world.answer = "yes"
    assert await world.renew() == world.cache.get("a") == Grant("yes", 1000.0, 1030.0)


async def test_concurrent_checks_share_one_and_two_caches_share_none() -> None:
    flights = SingleFlight(max_in_flight=10, description="checks")
    caches = [AnswerCache[str, str](flights, ttl=30.0) for _ in range(2)]
    checked: list[int] = []

    async def check(number: int) -> str:
        checked.append(number)
        await asyncio.sleep(0)
        return str(number)

    answers = await asyncio.gather(
        *(caches[number].ask("a", lambda number=number: check(number)) for number in (0, 1, 0, 1))  # type: ignore[misc]  # a lambda
    )
    assert [each.value for each in answers if isinstance(each, Grant)] == ["0", "1", "0", "1"]
    assert checked == [0, 1]


async def test_many_refusals_do_not_evict_grants() -> None:
    world = World(max_grants=5, max_refusals=5)
    await world.ask("good")
    world.answer = REFUSED
    for number in range(20):
        await world.ask(f"bad-{number}")
    assert isinstance(world.cache.get("good"), Grant)
    assert sum(world.cache.get(f"bad-{number}") is not None for number in range(20)) == 5


def test_a_caller_with_a_right_is_valid_until_one_of_both_answers_is_not() -> None:
    caller = Granted(identity=Identity(user="u"))
    for token_until, use_until in ((10.0, 20.0), (20.0, 10.0)):
        combined = combine(Grant(caller, 0.0, token_until), Grant(True, 0.0, use_until))
        assert combined == caller
        assert isinstance(combined, Granted)
        assert combined.valid_until == 10.0
    assert combine(Grant(caller, 0.0, 10.0), REFUSED) == REFUSED


class TestOutage:
    """The API server cannot be asked."""

    @pytest.fixture(autouse=True)
    def long_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wait for the answer on a busy machine, too."""
        monkeypatch.setattr(answer_cache, "OUTAGE_PATIENCE", 120.0)

    async def test_an_earlier_grant_is_used_until_the_end_of_the_grace_and_checked_again_every_10_seconds(self) -> None:
        world = World(outage_grace=100.0)
        await world.ask()
        world.answer = OUTAGE
        world.now = 1030.0
        assert world.cache.get("a") is None
        assert await world.ask() == Grant("yes", 1000.0, 1040.0)
        world.now = 1039.0
        assert await world.ask() == world.cache.get("a") == Grant("yes", 1000.0, 1040.0)
        assert len(world.checked_keys) == 2
        world.now = 1125.0
        assert await world.ask() == Grant("yes", 1000.0, 1130.0)
        world.now = 1130.0
        assert await world.ask() == OUTAGE
        assert world.cache.outage_count == 2

    async def test_without_a_grace_no_earlier_grant_is_used(self) -> None:
        world = World()
        await world.ask()
        world.answer, world.now = OUTAGE, 1030.0
        assert await world.ask() == OUTAGE

    async def test_a_caller_that_was_never_verified_is_not_accepted(self) -> None:
        world = World(outage_grace=100.0)
        world.answer = OUTAGE
        assert await world.ask() == OUTAGE

    async def test_nothing_is_used_after_its_own_expiry(self) -> None:
        world = World(outage_grace=100.0, expires_at=1035.0)
        await world.ask()
        world.answer, world.now = OUTAGE, 1030.0
        assert await world.ask() == Grant("yes", 1000.0, 1035.0)
        world.now = 1035.0
        assert await world.ask() == OUTAGE

    async def test_a_refusal_before_the_outage_or_in_it_ends_the_grant(self) -> None:
        world = World(outage_grace=100.0)
        await world.ask()
        world.answer = REFUSED
        await world.renew()
        world.answer, world.now = OUTAGE, 1030.0
        assert await world.ask() == OUTAGE

    async def test_another_reason_than_an_outage_accepts_nobody(self) -> None:
        world = World(outage_grace=100.0)
        await world.ask()
        world.answer, world.now = UNAVAILABLE, 1030.0
        assert await world.ask() == UNAVAILABLE

    async def test_a_check_that_hangs_is_not_awaited_and_its_refusal_still_ends_the_grant(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answer_cache, "OUTAGE_PATIENCE", 0.01)
        world = World(outage_grace=100.0)
        await world.ask()
        world.gate.clear()
        world.answer, world.now = REFUSED, 1030.0
        assert await world.ask() == Grant("yes", 1000.0, 1040.0)
        world.gate.set()
        await until(lambda: world.cache.get("a") == REFUSED)

    async def test_after_the_outage_the_new_answer_is_used(self) -> None:
        world = World(outage_grace=100.0)
        await world.ask()
        world.answer, world.now = OUTAGE, 1030.0
        await world.ask()
        world.answer, world.now = "no", 1040.0
        assert await world.ask() == Grant("no", 1040.0, 1070.0)

    async def test_the_log_says_so_once_a_minute(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World(outage_grace=200.0)
        await world.ask()
        world.answer = OUTAGE
        for world.now in (1030.0, 1040.0, 1050.0, 1095.0):
            await world.ask()
        assert (
            caplog.messages
            == ["callers that were verified keep working for up to 200 s, because the API server cannot be asked: away"]
            * 2
        )
