"""Callers' tokens: the key on disk, and what each token allows."""

import hashlib
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Identity, Refused
from connector_store.domain.config.settings import AccessRule
from connector_store.domain.permissions.bindings import Binding, ClusterRoleRef, Subject
from connector_store.domain.permissions.rbac import ClusterRole, PolicyRule
from connector_store.folder.caller_tokens import MAX_CACHED_TOKENS, BindingAuthorizer, TokenAccess
from connector_store.folder.signing_key import MAX_TTL, SigningKey
from connector_store.store import Store
from tests.fakes.clock import FakeClock
from tests.fakes.forged_tokens import GENUINE, Forgery, edit, edits, forgeries, is_valid_time
from tests.fuzz import examples

KEY = ObjectKey("team-a", "k8s")
AUDIENCE = "connectors-proxy"
BOOTED = 990_000.0
"""Unix time at which the boot-time clock was 0."""
PRIVATE = ec.generate_private_key(ec.SECP256R1())
SIGNER = SigningKey(PRIVATE)


def access(clock: FakeClock | None = None, audience: str = AUDIENCE, *, limit: int = MAX_CACHED_TOKENS) -> TokenAccess:
    now = clock or FakeClock()
    return TokenAccess(
        SIGNER.public_key, audience=audience, recheck=30, now=now, clock=lambda: now() - BOOTED, max_cached=limit
    )


def mint(key: ObjectKey = KEY, ttl: int = 60, audience: str = AUDIENCE) -> str:
    return SIGNER.issue(key, ttl=ttl, now=FakeClock().now, audience=audience)


def forged(*, signer: Any = PRIVATE, algorithm: str = "ES256", **changes: Any) -> str:
    claims = {"iss": "kubernetes-connector", "aud": AUDIENCE, "sub": str(KEY), "exp": 2_000_000, "jti": "1"} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, signer, algorithm=algorithm)


def test_an_issued_token_is_granted_with_its_expiry() -> None:
    answer = access().check_cached(mint(ttl=20), KEY)
    assert isinstance(answer, Granted)
    assert (answer.token_expires_at, answer.valid_until) == (1_000_020, 1_000_020 - BOOTED)
    assert answer.identity.user == "team-a/k8s"


def test_a_result_is_valid_for_at_most_the_recheck_interval() -> None:
    # The node's clock can be set back.
    clock = FakeClock()
    token, checker = mint(ttl=3600), access(clock)
    for _ in range(2):
        answer = checker.check_cached(token, KEY)
        assert isinstance(answer, Granted)
        assert (answer.token_expires_at, answer.valid_until) == (1_003_600, clock.now + 30 - BOOTED)
        clock.now += 100


async def test_checking_gives_the_same_answer_as_the_cache() -> None:
    token, checker = mint(), access()
    assert await checker.check(token, KEY) == checker.check_cached(token, KEY)


@pytest.mark.parametrize(
    ("token", "what", "reason"),
    [
        pytest.param(lambda: mint(ObjectKey("team-a", "other")), "use", "another Connector", id="another Connector"),
        pytest.param(lambda: mint(audience="x"), "token", "another audience", id="another audience"),
        pytest.param(
            lambda: forged(signer=ec.generate_private_key(ec.SECP256R1())),
            "token",
            "not signed by this proxy",
            id="another key",
        ),
        pytest.param(
            lambda: forged(signer="k" * 40, algorithm="HS256"), "token", "not a token", id="another algorithm"
        ),
        pytest.param(lambda: forged(signer=None, algorithm="none"), "token", "not a token", id="no signature"),
        pytest.param(lambda: forged(iss="else"), "token", "not a token", id="another issuer"),
        pytest.param(lambda: forged(exp=None), "token", "not a token", id="no expiry"),
        pytest.param(lambda: forged(iss=None), "token", "not a token", id="no issuer"),
        pytest.param(lambda: forged(aud=None), "token", "not a token", id="no audience"),
        pytest.param(lambda: forged(sub=None), "token", "not a token", id="no subject"),
        pytest.param(lambda: forged(jti=None), "token", "not a token", id="no identifier of its own"),
        pytest.param(lambda: forged(sub="k8s"), "use", "another Connector", id="a subject that is no Connector"),
        pytest.param(lambda: forged(exp=1_000_000), "token", "expired", id="one that has just expired"),
        pytest.param(lambda: forged(nbf=1e12), "token", "not a token", id="one that is not good yet"),
        pytest.param(lambda: forged(exp="soon"), "token", "not a token", id="an expiry that is no number"),
        pytest.param(lambda: forged(exp=10**400), "token", "not a token", id="an expiry that no float can represent"),
        pytest.param(lambda: "", "token", "not a token", id="nothing"),
        pytest.param(lambda: "a.b.c", "token", "not a token", id="garbage"),
        pytest.param(lambda: "\udc80", "token", "not ASCII", id="a lone surrogate"),
        pytest.param(lambda: "a" * 5000, "token", "longer than", id="too long"),
    ],
)
def test_a_foreign_token_is_refused_and_not_quoted(token: Callable[[], str], what: str, reason: str) -> None:
    answer = access().check_cached(token(), KEY)
    assert isinstance(answer, Refused)
    assert answer.check == what
    assert reason in answer.reason


def test_an_expired_token_is_refused_even_if_cached() -> None:
    clock = FakeClock()
    token, checker = mint(ttl=60), access(clock)
    assert isinstance(checker.check_cached(token, KEY), Granted)
    clock.now += 60
    assert checker.check_cached(token, KEY) == Refused(check="token", reason="the token has expired")


async def test_expiry_closes_a_live_connection() -> None:
    clock = FakeClock()
    token, checker = mint(ttl=60), access(clock)
    granted = checker.check_cached(token, KEY)
    assert isinstance(granted, Granted)
    clock.now += 59
    assert isinstance(await checker.recheck_token(token, granted.identity), Granted)
    clock.now += 1
    expired = Refused(check="token", reason="the token has expired")
    assert await checker.recheck_token(token, granted.identity) == expired


@pytest.mark.parametrize(
    ("token", "identity"),
    [
        pytest.param("garbage", Identity(user="u"), id="another token"),
        pytest.param(None, Identity(user="someone else"), id="another caller"),
    ],
)
async def test_a_live_connection_is_closed_by(token: str | None, identity: Identity | None) -> None:
    checker, good = access(), mint()
    granted = checker.check_cached(good, KEY)
    assert isinstance(granted, Granted)
    answer = await checker.recheck_token(token or good, identity or granted.identity)
    assert isinstance(answer, Refused)
    assert answer.check == "token"


async def test_the_right_of_a_live_connection_is_for_the_tokens_connector() -> None:
    checker, good = access(), mint()
    granted = checker.check_cached(good, KEY)
    assert isinstance(granted, Granted)
    assert granted.ends_with_token
    assert await checker.recheck_use(good, granted.identity, KEY) is True
    answer = await checker.recheck_use(good, granted.identity, ObjectKey("team-a", "other"))
    assert isinstance(answer, Refused)
    assert answer.check == "use"


def test_remembers_a_bounded_number_of_tokens() -> None:
    checker = access(limit=2)
    minted = [mint() for _ in range(4)]
    assert all(isinstance(checker.check_cached(each, KEY), Granted) for each in minted)
    assert len(checker._cache) == 2
    assert MAX_CACHED_TOKENS > 1000


def test_the_least_recently_used_token_is_evicted() -> None:
    checker, (first, second, third) = access(limit=2), [mint() for _ in range(3)]
    for each in (first, second, first, third):
        checker.check_cached(each, KEY)
    cached = set(checker._cache._entries)
    assert cached == {hashlib.sha256(each.encode()).digest() for each in (first, third)}


@pytest.mark.fuzz
@settings(max_examples=examples(100))
@given(forgeries)
def test_only_a_token_that_this_proxy_signed_is_granted(forgery: Forgery) -> None:
    good = {"iss": "kubernetes-connector", "aud": AUDIENCE, "sub": str(KEY), "exp": 2_000_000, "jti": "1"}
    result = access().check_cached(forgery.build(PRIVATE, good, kid=""), KEY)
    if isinstance(result, Refused):
        return
    claims = forgery.changed_claims(good)
    assert forgery.origin == GENUINE
    assert forgery.headers.get("alg", "ES256") == "ES256"
    assert (claims["iss"], claims["aud"], claims["sub"]) == (good["iss"], AUDIENCE, str(KEY))
    assert is_valid_time(claims["exp"])


@pytest.mark.fuzz
@settings(max_examples=examples(100))
@given(edits)
def test_an_edited_token_is_refused_or_identifies_the_same_caller(changes: list[tuple[float, int, str]]) -> None:
    result = access().check_cached(edit(mint(), changes), KEY)
    assert isinstance(result, Refused) or result.identity.user == str(KEY)


@given(st.text())
def test_every_text_gets_an_answer(text: str) -> None:
    assert isinstance(access().check_cached(text, KEY), Refused)


def test_a_token_is_valid_for_at_most_a_day() -> None:
    assert MAX_TTL == 86_400
    assert isinstance(access().check_cached(mint(ttl=MAX_TTL), KEY), Granted)


@pytest.mark.parametrize("ttl", [0, -1, MAX_TTL + 1])
def test_a_lifetime_out_of_bounds_is_refused(ttl: int) -> None:
    with pytest.raises(ParseError, match="ttl"):
        mint(ttl=ttl)


async def test_callers_of_an_issuer_have_the_rights_that_bindings_give() -> None:
    store, rule = Store(), AccessRule("use", "connectors", "proxy")
    rights = BindingAuthorizer(store, rule)
    me = Identity(user="ci:me")
    use = PolicyRule(verbs=("use",), api_groups=("connectors.alauda.io",), resources=("connectors/proxy",))
    binding = Binding(
        key=ObjectKey(KEY.namespace, "b"),
        role=ClusterRoleRef("user"),
        subjects=(Subject(kind="User", name="ci:me"),),
    )
    refused = await rights.authorize_use(me, KEY)
    assert refused == Refused(check="use", reason="ci:me may not use:connectors/proxy team-a/k8s", has_opinion=False)
    store.replace("folder", [ClusterRole(name="user", rules=(use,)), binding])
    assert await rights.authorize_use(me, KEY) is True


def test_a_named_caller_has_its_own_name() -> None:
    token = SIGNER.issue(KEY, ttl=60, now=FakeClock().now, audience=AUDIENCE, caller="ci:build")
    answer = access().check_cached(token, KEY)
    assert isinstance(answer, Granted)
    assert answer.identity.user == "ci:build"
    assert isinstance(access().check_cached(token, ObjectKey("team-a", "other")), Refused)


@pytest.mark.parametrize(
    "name",
    ["", " a", "a\n", "\x1b[2J", "\u202e", "system:masters", "system:serviceaccount:a:b", "team-a/k8s", "x" * 254],
)
def test_a_name_that_could_be_another_kind_of_caller_is_refused(name: str) -> None:
    with pytest.raises(ParseError, match="a caller's name"):
        SIGNER.issue(KEY, ttl=60, now=FakeClock().now, audience=AUDIENCE, caller=name)
    assert isinstance(access().check_cached(forged(caller=name), KEY), Refused)


async def test_bindings_apply_to_named_callers_only() -> None:
    allowed: set[str] = set()
    checker = TokenAccess(
        SIGNER.public_key, audience=AUDIENCE, recheck=30, now=FakeClock(), clock=lambda: 0.0,
        may_use=lambda identity, key: identity.user in allowed,
    )  # fmt: skip
    token = SIGNER.issue(KEY, ttl=60, now=FakeClock().now, audience=AUDIENCE, caller="ci:build")
    refused = checker.check_cached(token, KEY)
    assert isinstance(refused, Refused)
    assert (refused.check, refused.reason) == ("use", "no binding of the folder allows ci:build to use team-a/k8s")
    assert isinstance(checker.check_cached(mint(), KEY), Granted)
    allowed.add("ci:build")
    granted = checker.check_cached(token, KEY)
    assert isinstance(granted, Granted)
    assert await checker.recheck_use(token, granted.identity, KEY) is True
    assert isinstance(await checker.recheck_use(token, granted.identity, ObjectKey("team-a", "other")), Refused)
    allowed.clear()
    assert isinstance(await checker.recheck_use(token, granted.identity, KEY), Refused)
