"""Verification of a token: its caller, or a refusal that does not quote the token."""

import math
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jwt
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_store.domain.callers.access import AccessResult, Granted, Refused, Unavailable
from connector_store.domain.callers.authentication_config import Issuer, PrefixedClaim
from connector_store.oidc.fetch import HttpsFetcher
from connector_store.oidc.issuer_keys import IssuerKeys
from connector_store.oidc.verify import (
    MAX_TOKEN_LENGTH,
    NOT_BEFORE_LEEWAY,
    UnverifiedToken,
    read_unverified,
    verify_token,
)
from connector_store.trust import TrustStore
from lab.oidc_issuer import SigningKey, TestIssuer
from tests.fakes.forged_tokens import GENUINE, Forgery, edit, edits, forgeries, is_valid_time
from tests.fuzz import examples

STRANGER = SigningKey("k1")


@pytest.fixture(scope="module")
def server() -> Iterator[TestIssuer]:
    with TestIssuer() as issuer:
        yield issuer


def trusted(server: TestIssuer) -> Issuer:
    return Issuer(
        url=server.url,
        discovery_url=server.url + "/.well-known/openid-configuration",
        audiences=("connectors", "other"),
        username=PrefixedClaim(claim="sub", prefix="ci:"),
        groups=PrefixedClaim(claim="groups", prefix="ci:"),
    )


async def check(server: TestIssuer, token: str, *, issuer: Issuer | None = None) -> AccessResult:
    unverified = read_unverified(token)
    assert unverified is not None
    keys = IssuerKeys(
        trusted(server), HttpsFetcher(TrustStore().ssl_context(server.ca.pem), timeout=30), min_fetch_interval=0.0
    )
    return await verify_token(
        token, unverified, issuer or trusted(server), keys, source_ip="192.0.2.1", now=time.time()
    )


async def test_a_valid_token_identifies_its_caller(server: TestIssuer) -> None:
    result = await check(server, server.issue_token(sub="me", groups=["g"]))
    assert isinstance(result, Granted)
    assert result.identity.user == "ci:me"
    assert result.identity.groups == ("ci:g",)
    assert result.token_expires_at is not None


@pytest.mark.parametrize(
    ("issue_token", "user"),
    [
        pytest.param(
            lambda issuer: issuer.issue_github_token("org/app"),
            "ci:repo:org/app:ref:refs/heads/main",
            id="of GitHub Actions",
        ),
        pytest.param(
            lambda issuer: issuer.issue_gitlab_token("group/app"),
            "ci:project_path:group/app:ref_type:branch:ref:main",
            id="of GitLab",
        ),
        pytest.param(lambda issuer: issuer.issue_token(aud=["x", "other"]), "ci:somebody", id="of several audiences"),
        pytest.param(
            lambda issuer: issuer.issue_token(nbf=int(time.time()) + 60),
            "ci:somebody",
            id="of a clock that is a minute ahead",
        ),
        pytest.param(
            lambda issuer: issuer.issue_token(iat=int(time.time()) + 60), "ci:somebody", id="issued in a minute"
        ),
    ],
)
async def test_tokens_of_well_known_issuers(
    server: TestIssuer, issue_token: Callable[[TestIssuer], str], user: str
) -> None:
    result = await check(server, issue_token(server))
    assert isinstance(result, Granted)
    assert result.identity.user == user


def hs256_with_the_public_key(server: TestIssuer) -> str:
    pem = server.key.jwk()["x"]
    return jwt.encode({"iss": server.url, "sub": "me"}, pem * 2, algorithm="HS256", headers={"kid": "k1"})


def without_algorithm(server: TestIssuer) -> str:
    return jwt.encode({"iss": server.url, "sub": "me"}, "", algorithm="none", headers={"kid": "k1"})


@pytest.mark.parametrize(
    ("issue_token", "reason"),
    [
        pytest.param(without_algorithm, "its algorithm", id="no algorithm"),
        pytest.param(hs256_with_the_public_key, "its algorithm", id="a public key as a shared secret"),
        pytest.param(
            lambda issuer: STRANGER.sign({"iss": issuer.url, "aud": "connectors", "exp": 1e10, "sub": "me"}),
            "not signed by a key",
            id="another's signature under the name of the key",
        ),
        pytest.param(
            lambda issuer: issuer.issue_token(headers={"kid": "x"}), "not signed by a key", id="an unknown key"
        ),
        pytest.param(lambda issuer: issuer.issue_token(aud="x"), "another audience", id="another audience"),
        pytest.param(lambda issuer: issuer.issue_token(aud=None), "has no aud", id="no audience"),
        pytest.param(
            lambda issuer: issuer.issue_token(aud=["x", ["connectors"]]), "token", id="an audience within a list"
        ),
        pytest.param(lambda issuer: issuer.issue_token(ttl=-60), "has expired", id="expired a minute ago"),
        pytest.param(lambda issuer: issuer.issue_token(exp=None), "has no exp", id="without exp"),
        pytest.param(lambda issuer: issuer.issue_token(exp="9999999999"), "not numbers", id="exp as a string"),
        pytest.param(lambda issuer: issuer.issue_token(exp=True), "not numbers", id="exp as a boolean"),
        *(
            pytest.param(lambda issuer, exp=exp: issuer.issue_token(exp=exp), "not numbers", id=f"exp {name}")
            for name, exp in {
                "nan": math.nan,
                "infinity": math.inf,
                "-infinity": -math.inf,
                "2^63": 2**63,
                "10^400": 10**400,
            }.items()
        ),
        pytest.param(lambda issuer: issuer.issue_token(nbf=math.nan), "not numbers", id="nbf nan"),
        pytest.param(
            lambda issuer: issuer.issue_token(nbf=int(time.time() + NOT_BEFORE_LEEWAY) + 60),
            "not good yet",
            id="nbf in the future",
        ),
        pytest.param(lambda issuer: issuer.issue_token(sub=None), "claim sub: is missing", id="no name"),
        pytest.param(lambda issuer: issuer.issue_token(sub="a\r\nb"), "claim sub", id="line ends in the name"),
        pytest.param(lambda issuer: issuer.issue_token(groups=[["a"]]), "claim groups", id="nested groups"),
    ],
)
async def test_invalid_tokens_are_refused(
    server: TestIssuer, issue_token: Callable[[TestIssuer], str], reason: str
) -> None:
    result = await check(server, issue_token(server))
    assert isinstance(result, Refused)
    assert result.check == "token"
    assert reason in result.reason


async def test_a_token_without_a_key_name_is_refused_if_there_are_several_keys(server: TestIssuer) -> None:
    nameless = server.issue_token(headers={"kid": None})
    assert isinstance(await check(server, nameless), Granted)
    server.keys.append(SigningKey("k9"))
    try:
        assert isinstance(await check(server, nameless), Refused)
    finally:
        server.keys.pop()


async def test_two_keys_of_one_name_are_both_tried(server: TestIssuer) -> None:
    server.keys.insert(0, SigningKey("k1"))
    try:
        assert isinstance(await check(server, server.issue_token()), Granted)
        refused = await check(server, STRANGER.sign({"iss": server.url, "aud": "connectors", "exp": 1e10}))
        assert isinstance(refused, Refused)
    finally:
        server.keys.pop(0)


async def test_an_unavailable_issuer_is_named(server: TestIssuer) -> None:
    server.unavailable = True
    try:
        result = await check(server, server.issue_token())
    finally:
        server.unavailable = False
    assert isinstance(result, Unavailable)
    assert result.public_reason == f"issuer {server.url} cannot be asked for its keys"


async def test_the_issuer_must_match_exactly(server: TestIssuer) -> None:
    result = await check(server, server.issue_token(), issuer=replace(trusted(server), url=server.url + "/"))
    assert isinstance(result, Refused)


def encode_token(header: bytes, claims: bytes) -> str:
    """Encode a token with an arbitrary signature."""
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (header, claims, b"s" * 64))


PLAIN = b'{"alg":"ES256","iss":"https://x"}'


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="garbage"),
        pytest.param("a.b", id="two parts"),
        pytest.param("\udc80.a.b", id="a lone surrogate"),
        pytest.param(STRANGER.sign({"sub": "me"}), id="no issuer"),
        pytest.param(STRANGER.sign({"iss": "https://x"}, {"crit": ["b64"], "b64": False}), id="a critical extension"),
        pytest.param(
            encode_token(b'{"alg":"ES256","crit":["b64"],"b64":true}', PLAIN),
            id="a critical extension that PyJWT supports",
        ),
        pytest.param(STRANGER.sign({"iss": "https://x", "big": "a" * MAX_TOKEN_LENGTH}), id="a long token"),
        pytest.param(encode_token(PLAIN, b"[" * 12_000), id="nested lists up to the maximum length"),
        pytest.param(encode_token(b"[" * 12_000, PLAIN), id="nested lists in the header"),
        pytest.param(STRANGER.sign({"iss": "https://x", "big": "a" * 100_000}), id="100 kB of claims"),
    ],
)
def test_texts_without_an_issuer_are_ignored(token: str) -> None:
    assert read_unverified(token) is None


def test_issuer_algorithm_and_key_name_are_read() -> None:
    assert read_unverified(encode_token(PLAIN, PLAIN)) == UnverifiedToken(issuer="https://x", algorithm="ES256", kid="")
    token = STRANGER.sign({"iss": "https://x"})
    assert read_unverified(token) == UnverifiedToken(issuer="https://x", algorithm="ES256", kid="k1")


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_any_text_is_read_without_an_error(token: str) -> None:
    issuer: Any = read_unverified(token)
    assert issuer is None or isinstance(issuer, UnverifiedToken)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(server: TestIssuer) -> IssuerKeys:
    fetcher = HttpsFetcher(TrustStore().ssl_context(server.ca.pem), timeout=30)
    return IssuerKeys(trusted(server), fetcher, min_fetch_interval=0.0)


async def verify(server: TestIssuer, keys: IssuerKeys, token: str) -> AccessResult | None:
    """Verify a token as a proxy that trusts one issuer."""
    unverified = read_unverified(token)
    if unverified is None or unverified.issuer != server.url:
        return None
    return await verify_token(token, unverified, trusted(server), keys, source_ip="192.0.2.1", now=time.time())


@pytest.mark.fuzz
@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=examples(100))
@given(forgery=forgeries)
async def test_only_a_token_that_its_issuer_signed_is_granted(
    server: TestIssuer, keys: IssuerKeys, forgery: Forgery
) -> None:
    good = {"iss": server.url, "aud": "connectors", "sub": "me", "exp": int(time.time()) + 600}
    result = await verify(server, keys, forgery.build(server.key.private, good, kid="k1"))
    if not isinstance(result, Granted):
        return
    claims = forgery.changed_claims(good)
    assert forgery.origin == GENUINE
    assert forgery.headers.get("alg", "ES256") == "ES256"
    assert "crit" not in forgery.headers
    assert is_valid_time(claims["exp"])
    assert is_valid_time(claims.get("nbf", 0))
    assert isinstance(claims["exp"], int | float)
    assert claims["exp"] > time.time() - 5
    assert claims["aud"] == "connectors"
    assert result.identity.user == f"ci:{claims['sub']}"
    assert claims["sub"] in ("me", "system:admin", "a" * 3000)


@pytest.mark.fuzz
@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=examples(100))
@given(changes=edits)
async def test_an_edited_token_is_refused_or_identifies_the_same_caller(
    server: TestIssuer, keys: IssuerKeys, changes: list[tuple[float, int, str]]
) -> None:
    """Some edits leave a token as it is, or change only bits of base64 that mean nothing."""
    result = await verify(server, keys, edit(server.issue_token(sub="me", groups=["g"]), changes))
    assert not isinstance(result, Granted) or (result.identity.user, result.identity.groups) == ("ci:me", ("ci:g",))
