"""Keys of a key set that can verify a caller's token."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.oidc.key_set import MAX_KEYS, parse_key_set
from lab.oidc_issuer import SigningKey

EC = SigningKey("e1")
RSA = SigningKey("r1", kind="RS256")
WEAK = SigningKey("w1", kind="RS256", bits=1024)
OCT = {"kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256"}


def kids(*entries: Any) -> list[str]:
    return [key.kid for key in parse_key_set({"keys": list(entries)}).keys]


def test_signing_keys_are_parsed() -> None:
    assert kids(EC.jwk(), RSA.jwk()) == ["e1", "r1"]


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("text", id="no object"),
        pytest.param(OCT, id="a shared secret"),
        pytest.param(EC.jwk(private=True), id="a private key"),
        pytest.param(EC.jwk() | {"use": "enc"}, id="a key to encrypt with"),
        pytest.param(EC.jwk() | {"alg": "HS256"}, id="a public key as a shared secret"),
        pytest.param(EC.jwk() | {"alg": "RS256"}, id="an algorithm of another kind of key"),
        pytest.param(EC.jwk() | {"crv": "P-384"}, id="a point that is not on its curve"),
        pytest.param(EC.jwk() | {"crv": "secp256k1"}, id="an unsupported curve"),
        pytest.param(EC.jwk() | {"x": 5}, id="a coordinate that is a number"),
        pytest.param(RSA.jwk() | {"n": None}, id="no modulus"),
        pytest.param(WEAK.jwk(), id="a short RSA key"),
        pytest.param(
            {"kty": "OKP", "crv": "Ed25519", "x": "AA"}, id="an algorithm that the API server does not support"
        ),
    ],
)
def test_unusable_keys_are_ignored(entry: Any) -> None:
    assert kids(entry, EC.jwk()) == ["e1"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param([], "is not a list", id="a list"),
        pytest.param({}, "is not a list", id="empty"),
        pytest.param({"keys": {}}, "is not a list", id="keys that are no list"),
        pytest.param({"keys": [{}] * (MAX_KEYS + 1)}, "more than", id="too many keys"),
    ],
)
def test_an_invalid_key_set_is_refused(document: Any, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        parse_key_set(document)


def test_keys_are_found_by_name_and_algorithm() -> None:
    key_set = parse_key_set({"keys": [EC.jwk(), RSA.jwk()]})
    assert [key.kid for key in key_set.find("r1", "RS256")] == ["r1"]
    assert key_set.find("r1", "ES256") == ()
    assert key_set.find("other", "RS256") == ()
    assert key_set.has_key("e1")
    assert not key_set.has_key("other")


def test_an_rsa_key_without_an_algorithm_supports_all_rsa_algorithms() -> None:
    jwk = RSA.jwk()
    del jwk["alg"]
    assert parse_key_set({"keys": [jwk]}).find("r1", "PS384")


def test_two_keys_can_have_one_name() -> None:
    twin = SigningKey("e1")
    assert len(parse_key_set({"keys": [EC.jwk(), twin.jwk()]}).find("e1", "ES256")) == 2


def test_a_token_without_a_key_name_is_for_the_only_key() -> None:
    assert parse_key_set({"keys": [EC.jwk()]}).find("", "ES256")
    assert parse_key_set({"keys": [EC.jwk(), RSA.jwk()]}).find("", "ES256") == ()


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())


@given(st.lists(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid"]), VALUES)))
def test_every_entry_is_a_key_or_ignored(entries: list[dict[str, Any]]) -> None:
    assert parse_key_set({"keys": entries}).keys == ()
