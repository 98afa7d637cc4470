"""The keys of an issuer: how often it is asked, and what serves while it is away."""

import asyncio
from typing import Any

import pytest

from connector_store.domain.callers.authentication_config import Issuer, PrefixedClaim
from connector_store.oidc.fetch import FetchError
from connector_store.oidc.issuer_keys import REFRESH_INTERVAL, IssuerKeys, KeysUnavailableError
from lab.oidc_issuer import SigningKey
from tests.fakes.waiting import until

URL = "https://ci.example"
DISCOVERY = URL + "/.well-known/openid-configuration"
ISSUER = Issuer(url=URL, discovery_url=DISCOVERY, audiences=("connectors",), username=PrefixedClaim(claim="sub"))
FIRST, SECOND = SigningKey("k1"), SigningKey("k2")
MAX_AGE = 1000.0


class World:
    """An issuer and a clock of its own; `again` is short, as it is really waited for."""

    def __init__(self, *, again: float = 10.0) -> None:
        self.now = 5000.0
        self.looked = 0
        """How often somebody has looked at the clock."""
        self.asked: list[str] = []
        self.problem = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.documents: dict[str, Any] = {DISCOVERY: {"issuer": URL, "jwks_uri": URL + "/keys"}}
        self.sign_with(FIRST)
        self.keys = IssuerKeys(ISSUER, self._fetch, max_age=MAX_AGE, now=self._clock, min_fetch_interval=again)

    def sign_with(self, *keys: SigningKey) -> None:
        self.documents[URL + "/keys"] = {"keys": [each.jwk() for each in keys]}

    @property
    def times(self) -> int:
        return self.asked.count(DISCOVERY)

    async def find(self, kid: str = "k1") -> list[str]:
        return [each.kid for each in await self.keys.find(kid, "ES256")]

    def _clock(self) -> float:
        self.looked += 1
        return self.now

    async def _fetch(self, url: str) -> object:
        self.asked.append(url)
        await self.gate.wait()
        if self.problem:
            raise FetchError(self.problem)
        return self.documents[url]


async def test_concurrent_checks_share_one_fetch() -> None:
    world = World()
    world.gate.clear()
    waiting = [asyncio.ensure_future(world.find()) for _ in range(20)]
    await until(lambda: world.asked)
    world.gate.set()
    assert await asyncio.gather(*waiting) == [["k1"]] * 20
    assert world.asked == [DISCOVERY, URL + "/keys"]
    assert await world.find() == ["k1"]
    assert world.times == 1


async def test_a_cancelled_check_does_not_cancel_the_fetch() -> None:
    world = World()
    world.gate.clear()
    first, second = asyncio.ensure_future(world.find()), asyncio.ensure_future(world.find())
    await until(lambda: world.asked)
    first.cancel()
    world.gate.set()
    assert await second == ["k1"]


async def test_older_keys_are_refreshed_in_the_background() -> None:
    world = World()
    await world.find()
    world.now += REFRESH_INTERVAL
    world.sign_with(SECOND)
    world.gate.clear()
    assert await world.find() == ["k1"]
    world.gate.set()
    await until(lambda: world.asked.count(URL + "/keys") == 2)
    await asyncio.sleep(0)
    assert await world.find("k2") == ["k2"]


async def test_a_revoked_key_is_not_used_after_a_refresh() -> None:
    world = World(again=0.0)
    await world.find()
    world.now += REFRESH_INTERVAL
    world.sign_with(SECOND)
    await world.find()
    await until(lambda: world.asked.count(URL + "/keys") == 2)
    await asyncio.sleep(0)
    assert await world.find("k1") == []


async def test_an_unknown_key_name_causes_a_fetch() -> None:
    world = World()
    await world.find()
    world.sign_with(FIRST, SECOND)
    world.now += 10
    assert await world.find("k2") == ["k2"]
    assert world.times == 2


async def test_an_unknown_key_name_soon_after_a_fetch_waits_for_the_interval() -> None:
    world = World(again=0.05)
    await world.find()
    world.sign_with(FIRST, SECOND)
    waiting = [asyncio.ensure_future(world.find("k2")) for _ in range(20)]
    await asyncio.sleep(0)
    assert world.times == 1
    world.now += 0.05
    assert await asyncio.gather(*waiting) == [["k2"]] * 20
    assert world.times == 2


async def test_a_check_that_wakes_early_waits_for_the_rest_of_the_interval() -> None:
    world = World(again=0.001)
    await world.find()
    world.sign_with(FIRST, SECOND)
    waiting = asyncio.ensure_future(world.find("k2"))
    before = world.looked
    await until(lambda: world.looked > before + 10)
    assert (waiting.done(), world.times) == (False, 1)
    world.now += 0.001
    assert await waiting == ["k2"]


async def test_unknown_key_names_do_not_cause_more_fetches() -> None:
    world = World()
    await world.find()
    world.now += 10
    assert await world.find("x") == []
    # The clock stands still: whoever waits out the time finds that it has not come yet, and is told so.
    assert world.times == 2


async def test_cached_keys_are_used_until_max_age_while_the_issuer_is_unavailable() -> None:
    world = World()
    await world.find()
    world.problem = "it is away"
    world.now += MAX_AGE - 1
    assert await world.find() == ["k1"]
    await until(lambda: world.times == 2)
    world.now += 1
    with pytest.raises(KeysUnavailableError, match=r"cannot fetch the signing keys of https://ci\.example: it is away"):
        await world.find()


async def test_a_failed_fetch_is_not_repeated_immediately() -> None:
    world = World()
    world.problem = "it is away"
    for _ in range(5):
        with pytest.raises(KeysUnavailableError, match="it is away"):
            await world.find()
    assert world.times == 1
    world.problem = ""
    world.now += 10
    assert await world.find() == ["k1"]


async def test_an_unknown_key_name_is_not_refused_while_the_issuer_is_unavailable() -> None:
    world = World()
    await world.find()
    world.problem = "it is away"
    world.now += 10
    with pytest.raises(
        KeysUnavailableError, match=r"cannot fetch a new signing key of https://ci\.example: it is away"
    ):
        await world.find("k2")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param([], "is not an object", id="a list"),
        pytest.param({"issuer": URL + "/", "jwks_uri": URL + "/keys"}, "another issuer", id="another issuer"),
        pytest.param({"issuer": URL}, "names no https URL", id="no place of the keys"),
        pytest.param({"issuer": URL, "jwks_uri": "http://h/keys"}, "names no https URL", id="keys in plain http"),
        pytest.param({"issuer": URL, "jwks_uri": 5}, "not a string", id="a place that is a number"),
    ],
)
async def test_a_discovery_document_of_another_issuer_is_refused(document: object, reason: str) -> None:
    world = World()
    world.documents[DISCOVERY] = document
    with pytest.raises(KeysUnavailableError, match=reason):
        await world.find()


async def test_a_failure_and_its_end_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(again=0.0)
    with caplog.at_level("INFO"):
        await world.find()
        world.problem = "it is away"
        for _ in range(3):
            world.now += REFRESH_INTERVAL
            await world.find()
            await world.keys._wait_for_refresh()
        world.problem = ""
        await world.keys._wait_for_refresh()
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]
    assert "after a failure" in caplog.text


async def test_close_cancels_a_running_fetch() -> None:
    world = World()
    world.gate.clear()
    waiting = asyncio.ensure_future(world.find())
    await until(lambda: world.asked)
    await world.keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await world.keys.close()
