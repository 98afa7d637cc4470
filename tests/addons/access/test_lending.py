"""What decisions see of a Connector that may only mint: a token that is good now, or why there is none."""

from dataclasses import replace

import pytest

from addons.access.lending import Lending
from connector_store.domain.access import Answer, Granted, Identity, Refused
from connector_store.domain.bearer_token import BearerToken
from connector_store.domain.minting import MintedToken, MintingRight, TokenOrder
from connector_store.domain.models import NOT_LENT, Address, Target, Unusable
from connector_store.domain.names import ObjectKey
from connector_store.domain.verdict import Found
from connector_store.minter import Failure, Source

KEY = ObjectKey("team-a", "k8s")
GRANTED = Granted(identity=Identity(user="u"))
REFUSED = Refused(what="use", reason="no")
RIGHT = MintingRight(BearerToken("held"), TokenOrder(service_account=ObjectKey("ci", "deployer")))
MINTING = Target(key=KEY, uid="u", address=Address(host="h", port=1), credential=RIGHT, secret_name="s", ca=b"pem")
PLAIN = replace(MINTING, credential=BearerToken("held"))
MINTED = BearerToken("minted")


class Access:
    def __init__(self) -> None:
        self.known: Answer | None = GRANTED
        self.answer: Answer = GRANTED
        self.rechecked: list[ObjectKey] = []

    def cached(self, token: str, key: ObjectKey) -> Answer | None:
        return self.known

    async def check(self, token: str, key: ObjectKey) -> Answer:
        return self.answer

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> Answer:
        self.rechecked.append(key)
        return self.answer


class Minter:
    """Grants `token` when it is asked to lend, or fails."""

    def __init__(self) -> None:
        self.outcome: BearerToken | Failure = MINTED
        self.token: BearerToken | None = None
        self.failed: Failure | None = None
        self.asked: list[Source] = []
        self.kept: list[ObjectKey] = []
        self.forgotten: list[ObjectKey] = []
        self.told: list[ObjectKey] = []

    def current(self, source: Source) -> BearerToken | None:
        return self.token

    def failure(self, source: Source) -> Failure | None:
        return self.failed

    async def lend(self, source: Source) -> BearerToken | Failure:
        self.asked.append(source)
        if isinstance(self.outcome, BearerToken):
            self.token = self.outcome
        else:
            self.failed = self.outcome
        return self.outcome

    def refused(self, key: ObjectKey, token: BearerToken) -> None:
        self.told.append(key)

    def keep(self, source: Source) -> None:
        self.kept.append(source.key)

    def forget(self, key: ObjectKey) -> None:
        self.forgotten.append(key)


class World:
    def __init__(self) -> None:
        self.access, self.minter = Access(), Minter()
        self.held: Found = MINTING
        self.lending = Lending(self.access, lambda key: self.held, self.minter)  # type: ignore[arg-type]  # of the store only this is asked


@pytest.fixture
def world() -> World:
    return World()


async def test_a_granted_caller_waits_for_the_first_token_and_then_nobody_does(world: World) -> None:
    assert world.lending.cached("t", KEY) is None
    assert world.minter.asked == [], "nothing is asked of the target before the caller is checked"
    assert await world.lending.check("t", KEY) == GRANTED
    assert world.minter.asked == [Source(KEY, MINTING.address, b"pem", RIGHT, "s")]
    assert world.lending.cached("t", KEY) == GRANTED
    assert world.lending.find(KEY) == replace(MINTING, credential=MINTED)


@pytest.mark.parametrize("answer", [REFUSED, None])
async def test_for_whom_may_not_nothing_is_minted(world: World, answer: Answer | None) -> None:
    world.access.known, world.access.answer = answer, REFUSED
    assert world.lending.cached("t", KEY) == answer
    assert await world.lending.check("t", KEY) == REFUSED
    assert world.minter.asked == []


async def test_without_a_token_it_is_unusable_and_says_why(world: World) -> None:
    world.minter.outcome = Failure(message="the target says no", refused=True)
    assert await world.lending.check("t", KEY) == GRANTED
    assert world.lending.find(KEY) == Unusable(key=KEY, reason=NOT_LENT, message="the target says no")
    assert world.lending.cached("t", KEY) == GRANTED, "nobody waits while the target is left alone"


def test_the_minter_is_told_of_its_own_tokens_that_a_target_refuses(world: World) -> None:
    world.lending.refused(PLAIN)
    assert world.minter.told == []
    world.lending.refused(replace(MINTING, credential=MintedToken("minted", None)))
    assert world.minter.told == [KEY]


def test_before_the_first_one_it_is_unusable_too(world: World) -> None:
    found = world.lending.find(KEY)
    assert isinstance(found, Unusable)
    assert found.reason == NOT_LENT


@pytest.mark.parametrize("held", [PLAIN, None, Unusable(key=KEY, reason="SecretNotFound", message="x")])
async def test_all_others_are_what_they_are(world: World, held: Found) -> None:
    world.held = held
    assert world.lending.find(KEY) is held
    assert world.lending.cached("t", KEY) == GRANTED
    assert await world.lending.check("t", KEY) == GRANTED
    assert await world.lending.recheck("t", Identity(user="u"), KEY) == GRANTED
    assert (world.minter.asked, world.access.rechecked) == ([], [KEY])


def test_a_change_drops_what_it_does_not_belong_to(world: World) -> None:
    world.lending.changed(frozenset({KEY}))
    world.held = PLAIN
    world.lending.changed(frozenset({KEY}))
    assert (world.minter.kept, world.minter.forgotten) == ([KEY], [KEY])
