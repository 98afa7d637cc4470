"""Access of callers whose tokens come from OIDC issuers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.authentication_config import Issuer, PrefixedClaim
from connector_store.oidc.fetch import FetchError, HttpsFetcher
from connector_store.oidc.issuer_access import IssuerAccess
from connector_store.oidc.issuer_keys import MAX_KEY_WAITERS, IssuerKeys
from connector_store.trust import TrustStore
from lab.oidc_issuer import SigningKey, TestIssuer
from tests.fakes.waiting import until

KEY, OTHER = ObjectKey("team-a", "k8s"), ObjectKey("team-a", "other")
FALLBACK_RESULT = Granted(identity=Identity(user="inside"))
REFUSED = Refused(check="use", reason="may not")


class Fallback:
    """Access of all other callers."""

    revocation_count = 0

    def __init__(self) -> None:
        self.calls: list[str] = []

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        self.calls.append("cached")
        return None

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        self.calls.append("check")
        return FALLBACK_RESULT

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        self.calls.append("recheck_token")
        return FALLBACK_RESULT

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        self.calls.append("recheck_use")
        return True


class Authorizer:
    def __init__(self) -> None:
        self.result: Literal[True] | Refused | Unavailable = True
        self.calls: list[tuple[str, ObjectKey]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable:
        self.calls.append((identity.user, key))
        await self.gate.wait()
        return self.result


class World:
    def __init__(self, server: TestIssuer, *, max_in_flight: int = 500) -> None:
        self.server = server
        self.fallback, self.authorizer = Fallback(), Authorizer()
        self.now = time.time()
        self.set_back = 0.0
        fetch = HttpsFetcher(TrustStore().ssl_context(server.ca.pem), timeout=30)
        self.key_owners: list[str] = []

        def create_keys(issuer: Issuer) -> IssuerKeys:
            self.key_owners.append(issuer.url)
            return IssuerKeys(issuer, fetch, min_fetch_interval=0.0)

        self.access = IssuerAccess(
            self.fallback,
            self.authorizer,
            create_keys,
            recheck=30,
            max_in_flight=max_in_flight,
            now=lambda: self.now + self.set_back,
            clock=lambda: self.now,
        )
        self.access.configure([issuer_of(server)])

    async def check(self, token: str, key: ObjectKey = KEY, source_ip: str = "192.0.2.1") -> AccessResult:
        return await self.access.check(token, key, source_ip)

    def pass_expiry(self, granted: AccessResult) -> None:
        """Move the clock just past the expiry of the token, whose times are whole seconds."""
        assert isinstance(granted, Granted)
        assert granted.token_expires_at is not None
        self.now = granted.token_expires_at + 0.001


def issuer_of(server: TestIssuer, prefix: str = "ci:") -> Issuer:
    return Issuer(
        url=server.url,
        discovery_url=server.url + "/.well-known/openid-configuration",
        audiences=("connectors",),
        username=PrefixedClaim(claim="sub", prefix=prefix),
    )


@pytest.fixture(scope="module")
def server() -> Iterator[TestIssuer]:
    with TestIssuer() as issuer:
        yield issuer


async def test_a_caller_of_the_issuer_is_checked_once_and_then_cached(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token(sub="me")
    assert world.access.check_cached(token, KEY) is None
    result = await world.check(token)
    assert isinstance(result, Granted)
    assert result.identity.user == "ci:me"
    assert world.access.check_cached(token, KEY) == result
    assert await world.check(token) == result
    assert world.authorizer.calls == [("ci:me", KEY)]
    assert world.fallback.calls == []


async def test_the_right_is_checked_for_each_connector(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token(sub="me")
    await world.check(token)
    assert world.access.check_cached(token, OTHER) is None
    world.authorizer.result = REFUSED
    assert await world.check(token, OTHER) == REFUSED
    assert world.access.check_cached(token, OTHER) == REFUSED
    assert isinstance(world.access.check_cached(token, KEY), Granted)


@pytest.mark.parametrize(
    "set_back", [pytest.param(0.0, id="the clock advances"), pytest.param(-3600.0, id="the clock is set back")]
)
async def test_a_right_is_cached_until_the_recheck_and_a_refusal_for_seconds(
    server: TestIssuer, set_back: float
) -> None:
    world, token = World(server), server.issue_token(sub="me")
    await world.check(token)
    world.set_back, world.now = set_back, world.now + 30
    assert world.access.check_cached(token, KEY) is None
    world.authorizer.result = REFUSED
    assert await world.check(token) == REFUSED
    world.now += 3
    world.authorizer.result = True
    assert isinstance(await world.check(token), Granted)


async def test_an_unavailable_result_is_not_cached(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token()
    world.authorizer.result = Unavailable(reason="unavailable")
    assert isinstance(await world.check(token), Unavailable)
    world.authorizer.result = True
    assert isinstance(await world.check(token), Granted)


async def test_an_expired_token_is_refused_immediately(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token(ttl=10)
    world.pass_expiry(await world.check(token))
    assert world.access.check_cached(token, KEY) is None
    assert await world.check(token) == Refused(check="token", reason="the token has expired")


async def test_the_refusal_of_an_invalid_token_is_cached(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token(aud="x")
    result = await world.check(token)
    assert isinstance(result, Refused)
    assert world.access.check_cached(token, KEY) == result
    assert world.authorizer.calls == []


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("opaque", id="not a JWT"),
        pytest.param(SigningKey("k").sign({"iss": "https://other.example"}), id="an issuer that is not configured"),
    ],
)
async def test_other_tokens_go_to_the_fallback(server: TestIssuer, token: str) -> None:
    world = World(server)
    assert world.access.check_cached(token, KEY) is None
    assert await world.check(token) is FALLBACK_RESULT
    assert await world.access.recheck_token(token, Identity(user="u")) is FALLBACK_RESULT
    assert await world.access.recheck_use(token, Identity(user="u"), KEY) is True
    assert world.fallback.calls == ["cached", "check", "recheck_token", "recheck_use"]


async def test_new_issuers_and_the_fallback_revoke_results(server: TestIssuer) -> None:
    world = World(server)
    before = world.access.revocation_count
    world.access.configure([])
    assert world.access.revocation_count == before + 1
    world.fallback.revocation_count += 1
    assert world.access.revocation_count == before + 2


async def test_without_issuers_tokens_are_not_parsed(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token()
    world.access.configure([])
    assert world.access.check_cached(token, KEY) is None
    assert await world.check(token) is FALLBACK_RESULT


async def test_results_of_an_issuer_that_is_no_longer_trusted_are_dropped_immediately(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token()
    assert isinstance(await world.check(token), Granted)
    world.access.configure([])
    assert await world.check(token) is FALLBACK_RESULT


async def test_an_unchanged_issuer_keeps_its_keys(server: TestIssuer) -> None:
    world = World(server)
    world.access.configure([issuer_of(server)])
    assert world.key_owners == [server.url]
    world.access.configure([issuer_of(server, "other:")])
    assert world.key_owners == [server.url] * 2


async def test_a_check_that_began_before_a_configuration_change_is_discarded(server: TestIssuer) -> None:
    world, token, request_count = World(server), server.issue_token(), len(server.requested_paths)
    server.unblocked.clear()
    check = asyncio.ensure_future(world.check(token))
    await until(lambda: len(server.requested_paths) > request_count)
    world.access.configure([issuer_of(server, "other:")])
    server.unblocked.set()
    assert isinstance(await check, Unavailable)
    result = await world.check(token)
    assert isinstance(result, Granted)
    assert result.identity.user == "other:somebody"


async def test_a_waiting_check_is_refused_if_its_issuer_is_removed(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token()
    check = asyncio.ensure_future(world.check(token))
    world.access.configure([])
    assert isinstance(await check, Granted | Refused)


async def test_a_recheck_refuses_a_revoked_right(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token()
    granted = await world.check(token)
    assert isinstance(granted, Granted)
    assert await world.access.recheck_use(token, granted.identity, KEY) is True
    world.authorizer.result = REFUSED
    assert await world.access.recheck_use(token, granted.identity, KEY) == REFUSED
    assert world.access.check_cached(token, KEY) == REFUSED
    assert world.access.revocation_count == 2


async def test_tokens_of_one_user_share_the_check_of_a_right(server: TestIssuer) -> None:
    world, tokens = World(server), [server.issue_token(sub="me", jti=str(number)) for number in range(3)]
    assert all([isinstance(await world.check(token), Granted) for token in tokens])
    assert world.authorizer.calls == [("ci:me", KEY)]


@pytest.mark.parametrize("unavailable", [False, True])
async def test_a_recheck_refuses_an_expired_token_even_if_its_issuer_is_unavailable(unavailable: bool) -> None:
    with TestIssuer() as own:
        world, token = World(own), own.issue_token(ttl=10)
        granted = await world.check(token)
        assert isinstance(granted, Granted)
        world.pass_expiry(granted)
        own.unavailable = unavailable
        world.access.configure([])
        world.access.configure([issuer_of(own)])  # forgets the keys
        expired = Refused(check="token", reason="the token has expired")
        assert await world.access.recheck_token(token, granted.identity) == expired


async def test_a_recheck_refuses_a_token_of_another_caller(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token()
    result = await world.access.recheck_token(token, Identity(user="another"))
    assert isinstance(result, Refused)


async def test_a_recheck_refuses_a_revoked_key(server: TestIssuer) -> None:
    with TestIssuer() as own:
        world, token = World(own), own.issue_token()
        granted = await world.check(token)
        assert isinstance(granted, Granted)
        own.rotate("k2", keep_old_keys=False)
        await world.check(own.issue_token())
        result = await world.access.recheck_token(token, granted.identity)
        assert isinstance(result, Refused)


async def test_concurrent_checks_are_shared_and_limited(server: TestIssuer) -> None:
    world, token = World(server, max_in_flight=1), server.issue_token()
    world.access._flights._max_wait = 0.01
    await world.check(token, OTHER)
    world.authorizer.gate.clear()
    waiting = [asyncio.ensure_future(world.check(token)) for _ in range(3)]
    await asyncio.sleep(0)
    excess = await world.check(token, ObjectKey("team-b", "k8s"))
    assert excess == Unavailable(reason="1 checks are under way already", kind="too_many_reviews")
    world.authorizer.gate.set()
    results = await asyncio.gather(*waiting)
    assert all(isinstance(result, Granted) for result in results)
    assert world.authorizer.calls.count(("ci:somebody", KEY)) == 1


async def test_a_review_that_began_before_a_configuration_change_is_discarded(server: TestIssuer) -> None:
    world, token = World(server), server.issue_token(sub="me")
    world.authorizer.gate.clear()
    before = asyncio.ensure_future(world.check(token))
    await until(lambda: world.authorizer.calls)
    world.access.configure([issuer_of(server, "other:")])
    world.authorizer.result = REFUSED
    after = asyncio.ensure_future(world.check(token))
    await until(lambda: len(world.authorizer.calls) == 2)
    world.authorizer.gate.set()
    assert isinstance(await before, Unavailable)
    assert await after == REFUSED
    assert world.authorizer.calls == [("ci:me", KEY), ("other:me", KEY)]


async def test_an_issuer_that_hangs_does_not_use_up_the_places_of_another(server: TestIssuer) -> None:
    world, go_on, urls = World(server, max_in_flight=2), asyncio.Event(), list[str]()

    async def hang(url: str) -> object:
        urls.append(url)
        await go_on.wait()
        raise FetchError("no answer")

    create_keys = world.access._create_keys
    world.access._create_keys = lambda issuer: (
        create_keys(issuer) if issuer.url == server.url else IssuerKeys(issuer, hang, min_fetch_interval=60)
    )
    hanging = replace(issuer_of(server), url="https://hanging.example")
    world.access.configure([issuer_of(server), hanging])
    world.access._issuers[hanging.url].verifications._max_wait = 300.0
    tokens = [SigningKey("k").sign({"iss": hanging.url, "jti": str(number)}) for number in range(10)]
    waiting = [asyncio.ensure_future(world.check(token)) for token in tokens]
    await until(lambda: urls)
    async with asyncio.timeout(120):
        for number in range(5):
            assert isinstance(await world.check(server.issue_token(jti=str(number))), Granted)
    assert not any(each.done() for each in waiting)
    go_on.set()
    assert all(isinstance(each, Unavailable) for each in await asyncio.gather(*waiting))


async def test_strangers_with_unknown_keys_at_one_address_keep_no_caller_of_another_waiting_for_a_place(
    server: TestIssuer,
) -> None:
    world, gate = World(server), asyncio.Event()
    signing_keys = [SigningKey("first")]
    documents: dict[str, Callable[[], object]] = {
        "https://i.example/.well-known/openid-configuration": lambda: {
            "issuer": "https://i.example",
            "jwks_uri": "https://i.example/keys",
        },
        "https://i.example/keys": lambda: {"keys": [each.jwk() for each in signing_keys]},
    }

    async def fetch(url: str) -> object:
        if len(signing_keys) > 1:
            await gate.wait()
        return documents[url]()

    world.access._create_keys = lambda issuer: IssuerKeys(issuer, fetch, min_fetch_interval=0.0)
    issuer = replace(
        issuer_of(server), url="https://i.example", discovery_url="https://i.example/.well-known/openid-configuration"
    )
    world.access.configure([issuer])
    claims = {"iss": issuer.url, "aud": "connectors", "sub": "me", "exp": int(world.now) + 600}
    assert isinstance(await world.check(signing_keys[0].sign(claims)), Granted)
    signing_keys.append(SigningKey("second"))
    forged = [SigningKey(f"invented-{number}").sign(claims) for number in range(MAX_KEY_WAITERS)]
    strangers = [asyncio.ensure_future(world.check(token)) for token in forged]
    await until(lambda: len(world.access._issuers[issuer.url].keys._waiting) == MAX_KEY_WAITERS)
    caller = asyncio.ensure_future(world.check(signing_keys[1].sign(claims), source_ip="192.0.2.2"))
    await until(lambda: any(each.done() for each in strangers))
    gate.set()
    assert isinstance(await caller, Granted)
    kinds = Counter(type(each) for each in await asyncio.gather(*strangers))
    assert kinds == {Refused: MAX_KEY_WAITERS - 1, Unavailable: 1}
