"""Keys of an issuer: when they are fetched, and their use while the issuer is unavailable."""

import asyncio
from typing import Any

import pytest

from connector_store.domain.callers.authentication_config import Issuer, PrefixedClaim
from connector_store.oidc.fetch import FetchError
from connector_store.oidc.issuer_keys import MAX_KEY_WAITERS, REFRESH_INTERVAL, IssuerKeys, KeysUnavailableError
from lab.oidc_issuer import SigningKey
from tests.fakes.waiting import until

URL = "https://ci.example"
DISCOVERY = URL + "/.well-known/openid-configuration"
ISSUER = Issuer(url=URL, discovery_url=DISCOVERY, audiences=("connectors",), username=PrefixedClaim(claim="sub"))
FIRST, SECOND = SigningKey("k1"), SigningKey("k2")
MAX_AGE = 1000.0


class World:
    """An issuer and its own clock. `min_fetch_interval` is short, because tests wait for it."""

    def __init__(self, *, min_fetch_interval: float = 10.0) -> None:
        self.now = 5000.0
        self.clock_read_count = 0
        """Number of calls of the clock."""
        self.fetched_urls: list[str] = []
        self.error = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.documents: dict[str, Any] = {DISCOVERY: {"issuer": URL, "jwks_uri": URL + "/keys"}}
        self.sign_with(FIRST)
        self.keys = IssuerKeys(
            ISSUER, self._fetch, max_age=MAX_AGE, now=self._clock, min_fetch_interval=min_fetch_interval
        )

    def sign_with(self, *keys: SigningKey) -> None:
        self.documents[URL + "/keys"] = {"keys": [key.jwk() for key in keys]}

    @property
    def fetch_count(self) -> int:
        return self.fetched_urls.count(DISCOVERY)

    async def find(self, kid: str = "k1", source_ip: str = "192.0.2.1") -> list[str]:
        return [key.kid for key in await self.keys.find(kid, "ES256", source_ip)]

    def _clock(self) -> float:
        self.clock_read_count += 1
        return self.now

    async def _fetch(self, url: str) -> object:
        self.fetched_urls.append(url)
        await self.gate.wait()
        if self.error:
            raise FetchError(self.error)
        return self.documents[url]


async def test_concurrent_checks_share_one_fetch() -> None:
    world = World()
    world.gate.clear()
    waiting = [asyncio.ensure_future(world.find()) for _ in range(20)]
    await until(lambda: world.fetched_urls)
    world.gate.set()
    assert await asyncio.gather(*waiting) == [["k1"]] * 20
    assert world.fetched_urls == [DISCOVERY, URL + "/keys"]
    assert await world.find() == ["k1"]
    assert world.fetch_count == 1


async def test_a_cancelled_check_does_not_cancel_the_fetch() -> None:
    world = World()
    world.gate.clear()
    first, second = asyncio.ensure_future(world.find()), asyncio.ensure_future(world.find())
    await until(lambda: world.fetched_urls)
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
    await until(lambda: world.fetched_urls.count(URL + "/keys") == 2)
    await asyncio.sleep(0)
    assert await world.find("k2") == ["k2"]


async def test_a_revoked_key_is_not_used_after_a_refresh() -> None:
    world = World(min_fetch_interval=0.0)
    await world.find()
    world.now += REFRESH_INTERVAL
    world.sign_with(SECOND)
    await world.find()
    await until(lambda: world.fetched_urls.count(URL + "/keys") == 2)
    await asyncio.sleep(0)
    assert await world.find("k1") == []


async def test_an_unknown_key_name_causes_a_fetch() -> None:
    world = World()
    await world.find()
    world.sign_with(FIRST, SECOND)
    world.now += 10
    assert await world.find("k2") == ["k2"]
    assert world.fetch_count == 2


async def test_an_unknown_key_name_soon_after_a_fetch_waits_for_the_interval() -> None:
    world = World(min_fetch_interval=0.05)
    await world.find()
    world.sign_with(FIRST, SECOND)
    waiting = [asyncio.ensure_future(world.find("k2")) for _ in range(20)]
    await asyncio.sleep(0)
    assert world.fetch_count == 1
    world.now += 0.05
    assert await asyncio.gather(*waiting) == [["k2"]] * 20
    assert world.fetch_count == 2


async def test_a_check_that_wakes_after_the_fetch_of_another_does_not_wait_again() -> None:
    world = World(min_fetch_interval=0.01)
    await world.find()
    world.sign_with(FIRST, SECOND)
    waiting = asyncio.ensure_future(world.find("k2"))
    await asyncio.sleep(0)
    world.now += 0.01
    assert await world.find("k2") == ["k2"]
    assert world.fetch_count == 2
    assert await waiting == ["k2"]


async def test_a_check_that_wakes_early_waits_for_the_rest_of_the_interval() -> None:
    world = World(min_fetch_interval=0.001)
    await world.find()
    world.sign_with(FIRST, SECOND)
    waiting = asyncio.ensure_future(world.find("k2"))
    before = world.clock_read_count
    await until(lambda: world.clock_read_count > before + 10)
    assert (waiting.done(), world.fetch_count) == (False, 1)
    world.now += 0.001
    assert await waiting == ["k2"]


async def test_unknown_key_names_do_not_cause_more_fetches() -> None:
    world = World()
    await world.find()
    world.now += 10
    assert await world.find("x") == []
    # The clock does not advance here, so a second look-up would wait for the interval without end.
    assert world.fetch_count == 2


async def test_only_a_bounded_number_of_checks_wait_for_a_new_key() -> None:
    world = World()
    assert await world.find() == ["k1"]
    world.gate.clear()
    world.now += 20.0
    waiting = [asyncio.ensure_future(world.find(f"invented-{number}")) for number in range(MAX_KEY_WAITERS)]
    await until(lambda: world.fetch_count == 2)
    with pytest.raises(KeysUnavailableError, match="too many checks wait"):
        await world.find("another")
    assert await world.find() == ["k1"]
    world.sign_with(FIRST, SECOND)
    world.gate.set()
    assert await asyncio.gather(*waiting) == [[]] * MAX_KEY_WAITERS
    assert await world.find("k2") == ["k2"]


async def test_invented_key_names_of_one_address_leave_places_to_others() -> None:
    world = World()
    await world.find()
    world.gate.clear()
    world.now += 20.0
    strangers = [asyncio.ensure_future(world.find(f"invented-{number}")) for number in range(MAX_KEY_WAITERS)]
    await until(lambda: world.fetch_count == 2)
    callers = [asyncio.ensure_future(world.find("k2", f"192.0.2.{2 + number % 4}")) for number in range(20)]
    await until(lambda: sum(each.done() for each in strangers) == len(callers))
    assert not any(each.done() for each in callers)
    with pytest.raises(KeysUnavailableError, match="too many checks wait"):
        await world.find("invented")
    world.sign_with(FIRST, SECOND)
    world.gate.set()
    assert await asyncio.gather(*callers) == [["k2"]] * len(callers)
    results = await asyncio.gather(*strangers, return_exceptions=True)
    # The newest ones of the address with the most lost their places.
    assert [isinstance(each, KeysUnavailableError) for each in results] == [False] * 30 + [True] * 20
    assert not len(world.keys._waiting)


async def test_a_check_that_is_cancelled_gives_its_place_back() -> None:
    world = World()
    await world.find()
    world.gate.clear()
    waiting = asyncio.ensure_future(world.find("k2"))
    await until(lambda: len(world.keys._waiting))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not len(world.keys._waiting)
    await world.keys.close()


async def test_cached_keys_are_used_until_max_age_while_the_issuer_is_unavailable() -> None:
    world = World()
    await world.find()
    world.error = "it is unavailable"
    world.now += MAX_AGE - 1
    assert await world.find() == ["k1"]
    await until(lambda: world.fetch_count == 2)
    world.now += 1
    with pytest.raises(
        KeysUnavailableError, match=r"cannot fetch the signing keys of https://ci\.example: it is unavailable"
    ):
        await world.find()


async def test_a_failed_fetch_is_not_repeated_immediately() -> None:
    world = World()
    world.error = "it is unavailable"
    for _ in range(5):
        with pytest.raises(KeysUnavailableError, match="it is unavailable"):
            await world.find()
    assert world.fetch_count == 1
    world.error = ""
    world.now += 10
    assert await world.find() == ["k1"]


async def test_an_unknown_key_name_is_not_refused_while_the_issuer_is_unavailable() -> None:
    world = World()
    await world.find()
    world.error = "it is unavailable"
    world.now += 10
    with pytest.raises(
        KeysUnavailableError, match=r"cannot fetch a new signing key of https://ci\.example: it is unavailable"
    ):
        await world.find("k2")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param([], "is not an object", id="a list"),
        pytest.param({"issuer": URL + "/", "jwks_uri": URL + "/keys"}, "another issuer", id="another issuer"),
        pytest.param({"issuer": URL}, "names no https URL", id="no jwks_uri"),
        pytest.param({"issuer": URL, "jwks_uri": "http://h/keys"}, "names no https URL", id="keys in plain http"),
        pytest.param({"issuer": URL, "jwks_uri": 5}, "not a string", id="jwks_uri is a number"),
    ],
)
async def test_a_discovery_document_of_another_issuer_is_refused(document: object, reason: str) -> None:
    world = World()
    world.documents[DISCOVERY] = document
    with pytest.raises(KeysUnavailableError, match=reason):
        await world.find()


async def test_a_failure_and_its_end_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(min_fetch_interval=0.0)
    with caplog.at_level("INFO"):
        await world.find()
        world.error = "it is unavailable"
        for _ in range(3):
            world.now += REFRESH_INTERVAL
            await world.find()
            await world.keys._wait_for_refresh()
        world.error = ""
        await world.keys._wait_for_refresh()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "after a failure" in caplog.text


async def test_close_cancels_a_running_fetch() -> None:
    world = World()
    world.gate.clear()
    waiting = asyncio.ensure_future(world.find())
    await until(lambda: world.fetched_urls)
    await world.keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await world.keys.close()
