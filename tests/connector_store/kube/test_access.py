"""How often callers are reviewed, how long answers are valid, and what changes while the API server is down."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web

from connector_store import answer_cache
from connector_store.answer_cache import REFUSAL_TTL
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import POD_NAME, POD_UID, Access, Granted, Identity, Refused, Unavailable
from connector_store.domain.config.settings import AccessRule
from connector_store.kube.access import UNKNOWN_ISSUER_BURST, KubeAccess
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import PODS, SERVICE_ACCOUNTS, Resource
from tests.fakes.api_server import FakeApiServer, refusal, user

KEY = ObjectKey("team-a", "k8s")
OTHER = ObjectKey("team-a", "other")
RULE = AccessRule("use", "connectors", "proxy")
START = 1_000_000.0
ISSUER = "https://kubernetes.default.svc"


def claims(expires: float, name: str, issuer: str = ISSUER) -> dict[str, Any]:
    return {"exp": expires, "sub": name, "aud": ["connectors-proxy"], "iss": issuer}


class World:
    """Server that accepts `token`, an access check in front of it, and a clock."""

    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server = server
        self.client = client
        self.now = START
        self.set_back = 0.0
        self.reviews: list[tuple[str, str]] = []
        self.token = self.mint(START + 3600)
        self.access = self.make_access()

    def make_access(self, **options: Any) -> KubeAccess:
        return KubeAccess(
            self.client,
            audience="connectors-proxy",
            rule=RULE,
            issuers=[ISSUER],
            now=lambda: self.now + self.set_back,
            clock=lambda: self.now,
            on_review=lambda what, result: self.reviews.append((what, result)),
            **options,
        )

    def mint(self, expires: float, name: str = "sa") -> str:
        token = jwt.encode(claims(expires, name), "k" * 32)
        self.server.users[token] = user(name)
        self.server.allowed.add((name, str(KEY)))
        return token

    def forged(self, number: int = 0, issuer: str = ISSUER) -> str:
        """Return a well-formed token that the server does not accept."""
        return jwt.encode(claims(START + 3600, f"forged-{number}", issuer), "k" * 32)

    @property
    def review_counts(self) -> tuple[int, int]:
        """Return the numbers of TokenReviews and SubjectAccessReviews so far."""
        return self.server.count("POST", "tokenreviews"), self.server.count("POST", "subjectaccessreviews")


@pytest.fixture(autouse=True)
def long_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the API server's answer on a busy machine, too."""
    monkeypatch.setattr(answer_cache, "OUTAGE_PATIENCE", 120.0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        yield World(server, client)


def test_it_implements_access(world: World) -> None:
    access: Access = world.access
    assert access.check_cached(world.token, KEY) is None


async def test_a_caller_is_reviewed_once_in_the_caches_lifetime(world: World) -> None:
    assert world.access.check_cached(world.token, KEY) is None
    assert isinstance(await world.access.check(world.token, KEY), Granted)
    world.now += 29
    assert isinstance(world.access.check_cached(world.token, KEY), Granted)
    assert isinstance(await world.access.check(world.token, KEY), Granted)
    assert world.review_counts == (1, 1)
    assert world.reviews == [("token", "ok"), ("use", "ok")]
    world.now += 1
    assert world.access.check_cached(world.token, KEY) is None
    await world.access.check(world.token, KEY)
    assert world.review_counts == (2, 2)


@pytest.mark.parametrize(
    ("expires", "between", "holds"),
    [
        pytest.param(3600, 0, 30, id="while both reviews are fresh enough"),
        pytest.param(20, 0, 20, id="never past the token's expiry"),
        pytest.param(3600, 10, 30, id="from the review of the token on, if that is older"),
    ],
)
async def test_an_answer_says_until_when_it_is_valid(world: World, expires: int, between: int, holds: int) -> None:
    token = world.mint(START + expires, "held")
    await world.access.check(token, OTHER)
    world.now += between
    await world.access.check(token, KEY)
    answer = world.access.check_cached(token, KEY)
    assert isinstance(answer, Granted)
    assert answer.valid_until == START + holds


async def test_an_answer_is_valid_from_the_older_of_its_reviews(world: World) -> None:
    granted = await world.access.check(world.token, KEY)
    assert isinstance(granted, Granted)
    world.now += 20
    assert isinstance(await world.access.recheck_token(world.token, granted.identity), Granted)
    answer = world.access.check_cached(world.token, KEY)
    assert isinstance(answer, Granted)
    assert answer.valid_until == START + 30
    assert world.review_counts == (2, 1)


async def test_a_clock_that_is_set_back_prolongs_no_answer(world: World) -> None:
    await world.access.check(world.token, KEY)
    world.set_back, world.now = -3600.0, world.now + 30
    assert world.access.check_cached(world.token, KEY) is None


async def test_revocations_by_reviews_are_counted(world: World) -> None:
    granted = await world.access.check(world.token, KEY)
    assert isinstance(granted, Granted)
    assert world.access.revocation_count == 0
    world.server.allowed.clear()
    assert isinstance(await world.access.recheck_use(world.token, granted.identity, KEY), Refused)
    assert world.access.revocation_count == 1
    world.server.users.clear()
    assert isinstance(await world.access.recheck_token(world.token, granted.identity), Refused)
    assert world.access.revocation_count == 2


async def test_pods_of_one_account_share_the_review_of_a_right(world: World) -> None:
    tokens = [world.mint(START + 3600 + number, "sa") for number in range(3)]
    for number, token in enumerate(tokens):
        world.server.users[token] = user("sa", extra={POD_NAME: [f"web-{number}"], POD_UID: [str(number)]})
    answers = await asyncio.gather(*(world.access.check(token, KEY) for token in tokens))
    assert [each.identity.pod for each in answers if isinstance(each, Granted)] == ["web-0", "web-1", "web-2"]
    assert world.review_counts == (3, 1)


@pytest.mark.parametrize(
    ("changed", "reviews"),
    [
        pytest.param({"groups": ["ops"]}, 2, id="not with other groups"),
        pytest.param({"uid": "another"}, 2, id="not with another account of that name"),
        pytest.param({"extra": {"example.org/team": ["a"]}}, 2, id="not with another extra"),
        pytest.param({"extra": {"authentication.kubernetes.io/credential-id": ["JTI=1"]}}, 1, id="with another token"),
    ],
)
async def test_a_right_is_shared_by_user_groups_and_extra(world: World, changed: dict[str, Any], reviews: int) -> None:
    other = world.mint(START + 3601, "sa")
    world.server.users[other] = user("sa", **changed)
    for token in (world.token, other):
        assert isinstance(await world.access.check(token, KEY), Granted)
    assert world.review_counts == (2, reviews)


async def test_one_token_for_two_connectors_is_reviewed_once(world: World) -> None:
    await world.access.check(world.token, KEY)
    assert world.access.check_cached(world.token, OTHER) is None
    assert isinstance(await world.access.check(world.token, OTHER), Refused)
    assert world.review_counts == (1, 2)


async def test_concurrent_checks_share_one_review(world: World) -> None:
    answers = await asyncio.gather(*(world.access.check(world.token, KEY) for _ in range(50)))
    assert all(isinstance(each, Granted) for each in answers)
    assert world.review_counts == (1, 1)


async def test_concurrent_checks_for_two_namespaces_have_their_own_reviews(world: World) -> None:
    foreign = ObjectKey("team-b", KEY.name)
    mine, theirs = await asyncio.gather(world.access.check(world.token, KEY), world.access.check(world.token, foreign))
    assert isinstance(mine, Granted)
    assert isinstance(theirs, Refused)


async def test_a_cancelled_check_does_not_cancel_the_review(world: World) -> None:
    first = asyncio.create_task(world.access.check(world.token, KEY))
    second = asyncio.create_task(world.access.check(world.token, KEY))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, Granted)
    assert world.review_counts == (1, 1)


async def test_nothing_is_granted_past_the_tokens_expiry(world: World) -> None:
    token = world.mint(START + 5)
    await world.access.check(token, KEY)
    world.now += 4.9
    assert isinstance(world.access.check_cached(token, KEY), Granted)
    world.now += 0.1
    assert world.access.check_cached(token, KEY) == Refused(check="token", reason="it has expired")
    assert isinstance(await world.access.check(token, KEY), Refused)


async def test_an_expired_token_is_refused_though_the_server_is_lenient(world: World) -> None:
    answer = await world.access.check(world.mint(START - 1), KEY)
    assert answer == Refused(check="token", reason="it has expired")
    assert world.review_counts == (0, 0)


async def test_a_token_that_expires_during_its_review_is_refused(world: World) -> None:
    token = world.mint(START + 1)

    def slow(request: web.Request) -> None:
        world.now = START + 2

    world.server.faults.append(slow)
    answer = await world.access.check(token, KEY)
    assert answer == Refused(check="token", reason="the token has expired")


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(None, id="no JWT"),
        pytest.param({"aud": "https://kubernetes.default.svc", "iss": ISSUER}, id="another audience"),
        pytest.param({"aud": "connectors-proxy", "iss": ISSUER, "exp": START}, id="expired"),
    ],
)
async def test_a_token_of_another_server_costs_no_review(world: World, payload: dict[str, Any] | None) -> None:
    token = jwt.encode(payload, "k" * 32) if payload is not None else "bogus"
    assert isinstance(world.access.check_cached(token, KEY), Refused)
    assert isinstance(await world.access.check(token, KEY), Refused)
    assert world.review_counts == (0, 0)


async def test_tokens_of_unknown_issuers_cost_few_reviews_and_one_that_is_accepted_makes_its_issuer_known(
    world: World,
) -> None:
    fresh = "https://fresh.example"
    answers = [await world.access.check(world.forged(number, fresh), KEY) for number in range(3000)]
    assert sum(isinstance(each, Refused) for each in answers) == UNKNOWN_ISSUER_BURST
    assert world.review_counts == (UNKNOWN_ISSUER_BURST, 0)
    assert isinstance(await world.access.check(world.token, KEY), Granted), "known issuers are not held up"
    world.now += REFUSAL_TTL
    token = world.forged(0, fresh)
    world.server.users[token] = user("sa")
    assert isinstance(await world.access.check(token, KEY), Granted)
    more = [await world.access.check(world.forged(number, fresh), OTHER) for number in range(3000, 3200)]
    assert all(isinstance(each, Refused) for each in more)


async def test_refusals_are_cached_for_some_seconds(world: World) -> None:
    bad = world.forged()
    assert await world.access.check(bad, KEY) == world.access.check_cached(bad, KEY)
    assert await world.access.check(world.token, OTHER) == world.access.check_cached(world.token, OTHER)
    assert world.review_counts == (2, 1)
    world.now += 3
    assert world.access.check_cached(bad, KEY) is None
    assert world.access.check_cached(world.token, OTHER) is None


async def test_a_refusal_ttl_of_0_caches_no_refusal(world: World) -> None:
    access = world.make_access(refusal_ttl=0)
    await access.check(world.forged(), KEY)
    await access.check(world.forged(), KEY)
    assert world.review_counts == (2, 0)


@pytest.mark.parametrize("what", ["tokenreviews", "subjectaccessreviews"])
async def test_unavailable_answers_are_not_cached(world: World, what: str) -> None:
    world.server.faults.append(
        lambda request: refusal(429, "", "busy", {"Retry-After": "4"}) if request.path.endswith(what) else None
    )
    assert isinstance(answer := await world.access.check(world.token, KEY), Unavailable)
    assert answer.retry_after == 4
    assert world.reviews[-1][1] == "error"
    world.server.faults.clear()
    assert isinstance(await world.access.check(world.token, KEY), Granted)


async def test_verified_callers_keep_working_while_the_server_is_down(world: World) -> None:
    await world.access.check(world.token, KEY)
    world.now += 15
    world.server.faults.append(lambda request: refusal(500, "", "away"))
    assert isinstance(await world.access.recheck_token(world.token, Identity(user="sa")), Unavailable)
    assert isinstance(await world.access.recheck_use(world.token, Identity(user="sa"), KEY), Unavailable)
    assert isinstance(world.access.check_cached(world.token, KEY), Granted)


@pytest.mark.parametrize(
    ("status", "accepted"),
    [
        pytest.param(500, True, id="an internal error"),
        pytest.param(503, True, id="not ready"),
        pytest.param(429, True, id="overloaded"),
        pytest.param(403, False, id="the proxy's right is gone"),
        pytest.param(401, False, id="the proxy's token is refused"),
    ],
)
async def test_an_earlier_review_is_used_only_while_the_server_cannot_be_asked(
    world: World, status: int, accepted: bool
) -> None:
    access = world.make_access(outage_grace=300)
    await access.check(world.token, KEY)
    world.server.faults.append(lambda request: refusal(status, "", "no"))
    world.now += 30
    assert access.check_cached(world.token, KEY) is None
    answer = await access.check(world.token, KEY)
    assert isinstance(answer, Granted if accepted else Unavailable)
    assert access.outage_count == (2 if accepted else 0)
    if isinstance(answer, Granted):
        assert answer.valid_until == world.now + 10
    assert isinstance(await access.check(world.mint(START + 3000, "newcomer"), KEY), Unavailable)
    world.now += 300
    assert isinstance(await access.check(world.token, KEY), Unavailable)


async def test_an_outage_prolongs_no_token(world: World) -> None:
    access, token = world.make_access(outage_grace=300), world.mint(START + 60)
    await access.check(token, KEY)
    world.server.faults.append(lambda request: refusal(500, "", "away"))
    world.now += 59
    assert isinstance(await access.check(token, KEY), Granted)
    world.now += 1
    assert await access.check(token, KEY) == Refused(check="token", reason="it has expired")


async def test_reviews_above_the_limit_wait(world: World) -> None:
    access = world.make_access(max_in_flight=20)
    answers = await asyncio.gather(*(access.check(world.forged(number), KEY) for number in range(30)))
    assert all(isinstance(each, Refused) for each in answers)
    access = world.make_access(max_in_flight=20, max_wait=0.0)
    answers = await asyncio.gather(*(access.check(world.forged(number), KEY) for number in range(30, 60)))
    unavailable = [each for each in answers if isinstance(each, Unavailable)]
    assert len(unavailable) == 10
    assert unavailable[0].reason == "20 reviews are under way already"


class TestLiveConnections:
    IDENTITY = Identity(user="sa")

    async def test_a_revoked_right_closes_the_connection_and_refuses_new_requests(self, world: World) -> None:
        await world.access.check(world.token, KEY)
        world.server.allowed.clear()
        answer = await world.access.recheck_use(world.token, self.IDENTITY, KEY)
        assert isinstance(answer, Refused)
        assert answer.check == "use"
        cached = world.access.check_cached(world.token, KEY)
        assert isinstance(cached, Refused)
        assert (cached.check, cached.reason) == ("use", answer.reason)
        assert cached.authentication is not None
        assert cached.authentication.identity == self.IDENTITY
        assert not cached.authentication.has_right

    async def test_a_revoked_token_closes_the_connection(self, world: World) -> None:
        await world.access.check(world.token, KEY)
        world.server.users.clear()
        answer = await world.access.recheck_token(world.token, self.IDENTITY)
        assert isinstance(answer, Refused)
        assert world.access.check_cached(world.token, KEY) == answer

    async def owner(self, world: World) -> Identity:
        """Create a pod and its ServiceAccount. Return their identity."""
        uids = [
            (await world.server.put(resource, {"metadata": {"name": name, "namespace": "team-a"}}))["metadata"]["uid"]
            for resource, name in ((SERVICE_ACCOUNTS, "sa"), (PODS, "web"))
        ]
        bound = {POD_NAME: ("web",), POD_UID: (uids[1],)}
        world.server.allowed.add(("system:serviceaccount:team-a:sa", str(KEY)))
        return Identity(user="system:serviceaccount:team-a:sa", uid=uids[0], extra=bound)

    async def test_an_expired_token_closes_nothing_while_its_owner_exists(self, world: World) -> None:
        token, identity = world.mint(START + 5), await self.owner(world)
        for _ in range(2):
            world.now += 15
            assert isinstance(await world.access.recheck_token(token, identity), Granted)
        assert world.review_counts == (0, 0)

    @pytest.mark.parametrize(
        ("resource", "name", "again", "reason"),
        [
            pytest.param(PODS, "web", False, 'pods "web" in namespace "team-a" is gone', id="its pod is gone"),
            pytest.param(PODS, "web", True, 'pods "web" in namespace "team-a" is another', id="another pod is there"),
            pytest.param(SERVICE_ACCOUNTS, "sa", False, 'serviceaccounts "sa" in namespace', id="its account is gone"),
        ],
    )
    async def test_a_deleted_owner_closes_the_connection_even_before_expiry(
        self, world: World, resource: Resource, name: str, again: bool, reason: str
    ) -> None:
        token, identity = world.mint(START + 5), await self.owner(world)
        world.now += 15
        assert isinstance(await world.access.recheck_token(token, identity), Granted)
        await world.server.delete(resource, name, "team-a")
        if again:
            make_access = await world.server.put(resource, {"metadata": {"name": name, "namespace": "team-a"}})
            make_access["metadata"]["uid"] = "another"
        world.now += 15
        answer = await world.access.recheck_token(token, identity)
        assert isinstance(answer, Refused)
        assert reason in answer.reason

    async def test_an_owner_that_cannot_be_checked_closes_nothing(self, world: World) -> None:
        token, identity = world.mint(START + 5), await self.owner(world)
        world.now += 15
        world.server.faults.append(lambda request: refusal(403, "Forbidden", "no"))
        answer = await world.access.recheck_token(token, identity)
        assert isinstance(answer, Unavailable)
        assert "apply deploy/rbac" in answer.reason
        assert world.reviews[-1] == ("owner", "error")

    async def test_without_a_service_account_the_token_expiry_closes_the_connection(self, world: World) -> None:
        token = world.mint(START + 5)
        assert isinstance(await world.access.recheck_token(token, self.IDENTITY), Granted)
        world.now += 5
        assert isinstance(await world.access.recheck_token(token, self.IDENTITY), Refused)

    async def test_a_token_about_to_expire_is_not_reviewed(self, world: World) -> None:
        token = world.mint(START + 20)
        await world.access.check(token, KEY)
        world.server.users.clear()
        world.now += 12
        assert isinstance(await world.access.recheck_token(token, self.IDENTITY), Granted)
