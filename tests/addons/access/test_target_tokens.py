"""What decisions see of a Connector that may only mint: a token that is good now, or why there is none."""

from dataclasses import replace

import pytest

from addons.access.target_tokens import TargetTokens, TokenPending
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.token_request import IssuedToken, IssuingCredential, TokenRequest
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.objects.models import TOKEN_NOT_ISSUED, Address, Target, Unusable
from connector_store.token_manager import TokenEndpoint, TokenFailure

KEY = ObjectKey("team-a", "k8s")
RIGHT = IssuingCredential(BearerToken("held"), TokenRequest(service_account=ObjectKey("ci", "deployer")))
MINTING = Target(key=KEY, uid="u", address=Address(host="h", port=1), credential=RIGHT, secret_name="s", ca=b"pem")
PLAIN = replace(MINTING, credential=BearerToken("held"))
MINTED = BearerToken("minted")


class FakeTokenManager:
    """Grants `token` when it is asked to lend, or fails."""

    def __init__(self) -> None:
        self.outcome: BearerToken | TokenFailure = MINTED
        self.token: BearerToken | None = None
        self.failed: TokenFailure | None = None
        self.asked: list[TokenEndpoint] = []
        self.kept: list[ObjectKey] = []
        self.forgotten: list[ObjectKey] = []
        self.told: list[ObjectKey] = []

    def cached_token(self, endpoint: TokenEndpoint) -> BearerToken | None:
        return self.token

    def current_failure(self, endpoint: TokenEndpoint) -> TokenFailure | None:
        return self.failed

    async def get_token(self, endpoint: TokenEndpoint) -> BearerToken | TokenFailure:
        self.asked.append(endpoint)
        if isinstance(self.outcome, BearerToken):
            self.token = self.outcome
        else:
            self.failed = self.outcome
        return self.outcome

    def invalidate(self, key: ObjectKey, token: BearerToken) -> None:
        self.told.append(key)

    def discard_unless(self, endpoint: TokenEndpoint) -> None:
        self.kept.append(endpoint.key)

    def forget(self, key: ObjectKey) -> None:
        self.forgotten.append(key)


class World:
    def __init__(self) -> None:
        self.minter = FakeTokenManager()
        self.held: Resolution = MINTING
        self.lending = TargetTokens(lambda key: self.held, self.minter)  # type: ignore[arg-type]  # of the minter this is all


@pytest.fixture
def world() -> World:
    return World()


async def test_after_the_first_token_was_waited_for_it_is_lent(world: World) -> None:
    assert isinstance(world.lending.get(KEY), TokenPending)
    assert world.minter.asked == [], "nothing is asked of the target before the caller is checked"
    await world.lending.wait_for_token(KEY)
    assert world.minter.asked == [TokenEndpoint(KEY, MINTING.address, b"pem", RIGHT, "s")]
    assert world.lending.get(KEY) == replace(MINTING, credential=MINTED)


async def test_without_a_token_it_is_unusable_and_says_why(world: World) -> None:
    world.minter.outcome = TokenFailure(message="the target says no", refused=True)
    await world.lending.wait_for_token(KEY)
    found = world.lending.get(KEY)
    assert found == Unusable(key=KEY, reason=TOKEN_NOT_ISSUED, message="the target says no")
    assert not isinstance(found, TokenPending), "nobody waits while the target is left alone"


def test_the_minter_is_told_of_its_own_tokens_that_a_target_refuses(world: World) -> None:
    world.lending.discard_refused(PLAIN)
    assert world.minter.told == []
    world.lending.discard_refused(replace(MINTING, credential=IssuedToken("minted", None)))
    assert world.minter.told == [KEY]


def test_before_the_first_one_it_is_unusable_too(world: World) -> None:
    found = world.lending.get(KEY)
    assert isinstance(found, Unusable)
    assert found.reason == TOKEN_NOT_ISSUED


@pytest.mark.parametrize("held", [PLAIN, None, Unusable(key=KEY, reason="SecretNotFound", message="x")])
async def test_all_others_are_what_they_are(world: World, held: Resolution) -> None:
    world.held = held
    assert world.lending.get(KEY) is held
    await world.lending.wait_for_token(KEY)
    assert world.minter.asked == []


def test_a_change_drops_what_it_does_not_belong_to(world: World) -> None:
    world.lending.on_connectors_changed(frozenset({KEY}))
    world.held = PLAIN
    world.lending.on_connectors_changed(frozenset({KEY}))
    assert (world.minter.kept, world.minter.forgotten) == ([KEY], [KEY])
