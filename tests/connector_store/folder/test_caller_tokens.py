"""Callers' tokens: the key on disk, and what each token allows."""

import concurrent.futures
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Identity, Refused
from connector_store.domain.config.settings import AccessRule
from connector_store.domain.permissions.bindings import Binding, ClusterRoleRef, Subject
from connector_store.domain.permissions.rbac import ClusterRole, PolicyRule
from connector_store.folder import caller_tokens as subject
from connector_store.folder.caller_tokens import (
    KEY_FILE,
    MAX_CACHED_TOKENS,
    MAX_TTL,
    BindingAuthorizer,
    SigningKey,
    TokenAccess,
)
from connector_store.store import Store

KEY = ObjectKey("team-a", "k8s")
AUDIENCE = "connectors-proxy"
BOOTED = 990_000.0
"""Unix time at which the monotonic clock was 0."""
PRIVATE = ec.generate_private_key(ec.SECP256R1())
SIGNER = SigningKey(PRIVATE)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def access(clock: Clock | None = None, audience: str = AUDIENCE, *, limit: int = MAX_CACHED_TOKENS) -> TokenAccess:
    now = clock or Clock()
    return TokenAccess(
        SIGNER.public_key, audience=audience, recheck=30, now=now, clock=lambda: now() - BOOTED, max_cached=limit
    )


def mint(key: ObjectKey = KEY, ttl: int = 60, audience: str = AUDIENCE) -> str:
    return SIGNER.issue(key, ttl=ttl, now=Clock().now, audience=audience)


def forged(*, signer: Any = PRIVATE, algorithm: str = "ES256", **changes: Any) -> str:
    claims = {"iss": "kubernetes-connector", "aud": AUDIENCE, "sub": str(KEY), "exp": 2_000_000, "jti": "1"} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, signer, algorithm=algorithm)


def test_an_issued_token_is_granted_with_its_expiry() -> None:
    answer = access().check_cached(mint(ttl=20), KEY)
    assert isinstance(answer, Granted)
    assert (answer.token_expires_at, answer.valid_until) == (1_000_020, 1_000_020 - BOOTED)
    assert answer.identity.user == "team-a/k8s"


def test_a_result_is_valid_for_at_most_the_recheck_interval() -> None:
    # The clock of `valid_until` stands still while a laptop sleeps.
    clock = Clock()
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
    clock = Clock()
    token, checker = mint(ttl=60), access(clock)
    assert isinstance(checker.check_cached(token, KEY), Granted)
    clock.now += 60
    assert checker.check_cached(token, KEY) == Refused(check="token", reason="the token has expired")


async def test_expiry_closes_a_live_connection() -> None:
    clock = Clock()
    token, checker = mint(ttl=60), access(clock)
    granted = checker.check_cached(token, KEY)
    assert isinstance(granted, Granted)
    clock.now += 59
    assert isinstance(await checker.recheck(token, granted.identity, KEY), Granted)
    clock.now += 1
    expired = Refused(check="token", reason="the token has expired")
    assert await checker.recheck(token, granted.identity, KEY) == expired


@pytest.mark.parametrize(
    ("token", "identity", "key", "what"),
    [
        pytest.param("garbage", Identity(user="u"), KEY, "token", id="another token"),
        pytest.param(None, Identity(user="someone else"), KEY, "token", id="another caller"),
        pytest.param(None, None, ObjectKey("team-a", "other"), "use", id="another Connector"),
    ],
)
async def test_a_live_connection_is_closed_by(
    token: str | None, identity: Identity | None, key: ObjectKey, what: str
) -> None:
    checker, good = access(), mint()
    granted = checker.check_cached(good, KEY)
    assert isinstance(granted, Granted)
    answer = await checker.recheck(token or good, identity or granted.identity, key)
    assert isinstance(answer, Refused)
    assert answer.check == what


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


def test_the_key_is_created_once_for_its_owner_only(tmp_path: Path) -> None:
    first = SigningKey.load_or_create(tmp_path / "conf")
    again = SigningKey.load_or_create(tmp_path / "conf")
    assert stat.S_IMODE((tmp_path / "conf" / KEY_FILE).stat().st_mode) == 0o600
    assert [each.name for each in (tmp_path / "conf").iterdir()] == [KEY_FILE]
    token = first.issue(KEY, ttl=60, now=time.time(), audience=AUDIENCE)
    assert isinstance(
        TokenAccess(again.public_key, audience=AUDIENCE, recheck=30, now=time.time).check_cached(token, KEY), Granted
    )


def test_starting_at_once_gives_one_key(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: SigningKey.load_or_create(tmp_path).public_key.public_numbers(), range(8)))
    assert len(set(keys)) == 1


def _pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        pytest.param(b"", 0o600, "not a PEM private key", id="an empty file"),
        pytest.param(_pem(PRIVATE), 0o644, "chmod 600", id="a key that others may read"),
        pytest.param(_pem(PRIVATE), 0o640, "chmod 600", id="a key that its group may read"),
        pytest.param(_pem(ec.generate_private_key(ec.SECP384R1())), 0o600, "not an EC P-256 key", id="another curve"),
        pytest.param(_pem(rsa.generate_private_key(65537, 2048)), 0o600, "not an EC P-256 key", id="an RSA key"),
    ],
)
def test_a_key_that_cannot_be_used_says_what_to_do(tmp_path: Path, content: bytes, mode: int, reason: str) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ParseError, match=reason):
        SigningKey.load_or_create(tmp_path)


def test_a_confdir_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ParseError, match="file"):
        SigningKey.load_or_create(tmp_path / "file" / "conf")


def test_a_key_that_another_process_created_meanwhile_is_used(tmp_path: Path) -> None:
    subject._create_key(tmp_path / KEY_FILE)
    before = (tmp_path / KEY_FILE).read_bytes()
    subject._create_key(tmp_path / KEY_FILE)
    assert (tmp_path / KEY_FILE).read_bytes() == before
    assert os.listdir(tmp_path) == [KEY_FILE]  # noqa: PTH208 - hidden drafts count too


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
    assert refused == Refused(check="use", reason="ci:me may not use:connectors/proxy team-a/k8s")
    store.replace("folder", [ClusterRole(name="user", rules=(use,)), binding])
    assert await rights.authorize_use(me, KEY) is True
