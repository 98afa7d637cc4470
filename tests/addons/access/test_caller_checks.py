"""Check whether a caller may use a Connector. Every failure refuses."""

import asyncio
import logging
from dataclasses import replace
from typing import Literal

import pytest

from addons.access.caller_checks import REFUSAL_BURST, AccessContext, UnavailableChecks, check_access, check_caller
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.decision.decide import ProxyLimits
from connector_store.single_flight import SingleFlight
from connector_store.token_bucket import TokenBucketBySource
from tests.fakes.target_tokens import fixed_target_tokens

KEY, SOURCE = ObjectKey("n", "a"), "192.0.2.1"
GRANTED = Granted(identity=Identity(user="u"))


class FakeAccess:
    revocation_count = 0

    def __init__(self, result: AccessResult | Exception | None) -> None:
        self.result = result
        self.sources: list[str] = []

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return None

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        self.sources.append(source_ip)
        if self.result is None:
            await asyncio.Event().wait()
        if isinstance(self.result, Exception):
            raise self.result
        assert self.result is not None
        return self.result

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        raise NotImplementedError

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        raise NotImplementedError


async def do_nothing(granted: Granted) -> None:
    """Return at once."""


async def test_the_access_result_is_returned() -> None:
    assert await check_access(FakeAccess(GRANTED), "t", KEY, SOURCE, on_granted=do_nothing) is GRANTED


@pytest.mark.parametrize(
    ("result", "expected"),
    [(GRANTED, [GRANTED]), (Refused(check="use", reason=""), []), (Unavailable(reason=""), [])],
    ids=["granted", "without the right", "unavailable"],
)
async def test_on_granted_is_awaited_only_for_granted_callers(result: AccessResult, expected: list[Granted]) -> None:
    granted_results: list[Granted] = []

    async def on_granted(granted: Granted) -> None:
        granted_results.append(granted)

    assert await check_access(FakeAccess(result), "t", KEY, SOURCE, on_granted=on_granted) is result
    assert granted_results == expected


async def test_on_granted_is_limited_by_the_timeout() -> None:
    async def wait_forever(granted: Granted) -> None:
        await asyncio.Event().wait()

    result = await check_access(FakeAccess(GRANTED), "t", KEY, SOURCE, on_granted=wait_forever, timeout=0.01)
    assert result == Unavailable(reason="the check took too long", kind="check_timeout")


async def test_a_check_that_raises_refuses_and_logs_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    result = await check_access(
        FakeAccess(RuntimeError("about t-canary")), "t-canary", KEY, SOURCE, on_granted=do_nothing
    )
    assert result == Unavailable(reason="the check failed", retry_after=1)
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_granted_caller_is_refused_if_on_granted_raises(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(granted: Granted) -> None:
        raise LookupError("about t-canary")

    result = await check_access(FakeAccess(GRANTED), "t-canary", KEY, SOURCE, on_granted=fail)
    assert result == Unavailable(reason="the check failed")
    assert "LookupError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_check_that_hangs_times_out() -> None:
    result = await check_access(FakeAccess(None), "t", KEY, SOURCE, on_granted=do_nothing, timeout=0.01)
    assert result == Unavailable(reason="the check took too long", kind="check_timeout")


def access_context(access: FakeAccess) -> AccessContext:
    return AccessContext(
        unsynced=frozenset(), access=access, target_tokens=fixed_target_tokens(lambda key: None), policy=ProxyLimits()
    )


@pytest.mark.parametrize(
    ("result", "limited"),
    [
        pytest.param(Refused(check="token", reason="forged"), True, id="refused tokens"),
        pytest.param(Refused(check="use", reason="may not"), False, id="good tokens without the right"),
        pytest.param(GRANTED, False, id="accepted ones"),
        pytest.param(Unavailable(reason="away"), False, id="an API server that is away"),
    ],
)
async def test_refused_tokens_are_rate_limited_by_address(result: AccessResult, limited: bool) -> None:
    access = FakeAccess(result)
    inputs = access_context(access)
    results = [await check_caller(inputs, f"t{number}", KEY, "192.0.2.1") for number in range(3 * REFUSAL_BURST)]
    limited_results = [each for each in results if isinstance(each, Unavailable) and "192.0.2.1" in each.reason]
    assert bool(limited_results) is limited
    assert len(results) - len(limited_results) >= REFUSAL_BURST
    assert {each.kind for each in limited_results} == ({"too_many_refused_tokens"} if limited else set())
    assert inputs.unavailable.counts["too_many_refused_tokens"] == len(limited_results)
    assert await check_caller(inputs, "t", KEY, "192.0.2.2") == result, "another address has its own limit"
    assert access.sources == [SOURCE] * (len(access.sources) - 1) + ["192.0.2.2"]


async def test_a_thousand_callers_of_one_address_at_the_same_moment_are_all_checked() -> None:
    class SlowAccess(FakeAccess):
        flights = SingleFlight(max_in_flight=500, description="reviews")

        async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
            async def review() -> Granted:
                await asyncio.sleep(0.1)
                return GRANTED

            return await self.flights.do(token, review)

    inputs = access_context(SlowAccess(GRANTED))
    results = await asyncio.gather(*(check_caller(inputs, f"t{number}", KEY, "192.0.2.1") for number in range(1000)))
    assert results == [GRANTED] * 1000


async def test_refused_tokens_at_the_same_moment_all_count() -> None:
    clock, gate = [0.0], asyncio.Event()

    class GatedAccess(FakeAccess):
        async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
            await gate.wait()
            return Refused(check="token", reason="forged")

    refusals = TokenBucketBySource(rate=5.0, burst=100, now=lambda: clock[0])
    inputs = replace(access_context(GatedAccess(None)), refusals=refusals)
    waiting = [asyncio.ensure_future(check_caller(inputs, f"t{each}", KEY, "192.0.2.1")) for each in range(300)]
    await asyncio.sleep(0)
    gate.set()
    assert all(isinstance(each, Refused) for each in await asyncio.gather(*waiting))
    clock[0] = 40.0
    assert isinstance(await check_caller(inputs, "t", KEY, "192.0.2.1"), Unavailable)
    clock[0] = 41.0
    assert isinstance(await check_caller(inputs, "t", KEY, "192.0.2.1"), Refused)


def test_the_log_says_when_a_kind_of_unavailability_begins_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    times = iter((0.0, 1.0, 2.0, 3.0, 61.0, 62.0, 63.0))
    checks = UnavailableChecks(now=lambda: next(times))
    down, slow = Unavailable(reason="refused", kind="api_server_error"), Unavailable(reason="", kind="check_timeout")
    for result in (down, down, slow, GRANTED):
        checks.record(result)
    assert [each.message for each in caplog.records] == [
        "callers cannot be checked: api_server_error: refused",
        "callers cannot be checked: check_timeout: ",
    ]
    caplog.clear()
    checks.record(GRANTED)
    assert [each.message for each in caplog.records] == ["callers can be checked again: no api_server_error for 60 s"]
    checks.record(down)
    assert len(caplog.records) == 3
    assert (checks.counts["api_server_error"], checks.counts["check_timeout"]) == (3, 1)
