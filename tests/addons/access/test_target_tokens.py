"""Targets whose credential may only issue tokens: they have a current token, or a reason why there is none."""

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
ISSUING = IssuingCredential(BearerToken("stored"), TokenRequest(service_account=ObjectKey("ci", "deployer")))
ISSUING_TARGET = Target(
    key=KEY, uid="u", address=Address(host="h", port=1), credential=ISSUING, secret_name="s", ca=b"pem"
)
TOKEN_TARGET = replace(ISSUING_TARGET, credential=BearerToken("stored"))
ISSUED = BearerToken("minted")


class FakeTokenManager:
    """TokenManager whose `get_token` has the configured outcome."""

    def __init__(self) -> None:
        self.outcome: BearerToken | TokenFailure = ISSUED
        self.token: BearerToken | None = None
        self.failure: TokenFailure | None = None
        self.requests: list[TokenEndpoint] = []
        self.retained: list[ObjectKey] = []
        self.forgotten: list[ObjectKey] = []
        self.invalidated: list[ObjectKey] = []

    def cached_token(self, endpoint: TokenEndpoint) -> BearerToken | None:
        return self.token

    def current_failure(self, endpoint: TokenEndpoint) -> TokenFailure | None:
        return self.failure

    async def get_token(self, endpoint: TokenEndpoint) -> BearerToken | TokenFailure:
        self.requests.append(endpoint)
        if isinstance(self.outcome, BearerToken):
            self.token = self.outcome
        else:
            self.failure = self.outcome
        return self.outcome

    def invalidate(self, key: ObjectKey, token: BearerToken) -> None:
        self.invalidated.append(key)

    def discard_unless(self, endpoint: TokenEndpoint) -> None:
        self.retained.append(endpoint.key)

    def forget(self, key: ObjectKey) -> None:
        self.forgotten.append(key)


class World:
    def __init__(self) -> None:
        self.manager = FakeTokenManager()
        self.resolution: Resolution = ISSUING_TARGET
        self.target_tokens = TargetTokens(lambda key: self.resolution, self.manager)  # type: ignore[arg-type]  # of the minter this is all


@pytest.fixture
def world() -> World:
    return World()


async def test_after_the_wait_for_the_first_token_the_target_has_it(world: World) -> None:
    assert isinstance(world.target_tokens.get(KEY), TokenPending)
    assert world.manager.requests == [], "the target gets no request before the caller is checked"
    await world.target_tokens.wait_for_token(KEY)
    assert world.manager.requests == [TokenEndpoint(KEY, ISSUING_TARGET.address, b"pem", ISSUING, "s")]
    assert world.target_tokens.get(KEY) == replace(ISSUING_TARGET, credential=ISSUED)


async def test_without_a_token_the_connector_is_unusable_with_the_reason(world: World) -> None:
    world.manager.outcome = TokenFailure(message="the target says no", refused=True)
    await world.target_tokens.wait_for_token(KEY)
    result = world.target_tokens.get(KEY)
    assert result == Unusable(key=KEY, reason=TOKEN_NOT_ISSUED, message="the target says no")
    assert not isinstance(result, TokenPending), "no caller waits during the pause after a failure"


def test_issued_tokens_that_a_target_refuses_are_discarded(world: World) -> None:
    world.target_tokens.discard_refused(TOKEN_TARGET)
    assert world.manager.invalidated == []
    world.target_tokens.discard_refused(
        replace(ISSUING_TARGET, credential=IssuedToken("minted", BearerToken("issuer")))
    )
    assert world.manager.invalidated == [KEY]


def test_before_the_first_token_the_connector_is_unusable(world: World) -> None:
    result = world.target_tokens.get(KEY)
    assert isinstance(result, Unusable)
    assert result.reason == TOKEN_NOT_ISSUED


@pytest.mark.parametrize("resolution", [TOKEN_TARGET, None, Unusable(key=KEY, reason="SecretNotFound", message="x")])
async def test_other_resolutions_are_returned_unchanged(world: World, resolution: Resolution) -> None:
    world.resolution = resolution
    assert world.target_tokens.get(KEY) is resolution
    await world.target_tokens.wait_for_token(KEY)
    assert world.manager.requests == []


def test_a_changed_connector_drops_its_tokens(world: World) -> None:
    world.target_tokens.on_connectors_changed(frozenset({KEY}))
    world.resolution = TOKEN_TARGET
    world.target_tokens.on_connectors_changed(frozenset({KEY}))
    assert (world.manager.retained, world.manager.forgotten) == ([KEY], [KEY])
