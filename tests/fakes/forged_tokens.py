"""Tokens that an attacker builds, as Hypothesis strategies: any header, any claims, and a signature of any origin."""

import base64
import hmac
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st

STRANGER: Final = ec.generate_private_key(ec.SECP256R1())
GENUINE: Final = "genuine"
"""Origin of the only signature that can be valid: the issuer signed this header and these claims."""
_ABSENT: Final = "(absent)"
_ORIGINS: Final = (
    "stranger", "another token's", "public key as a secret", "key's x as a secret", "zeros", "empty", "cut",
    "one byte differs", "as DER",
)  # fmt: skip


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    jwk: dict[str, Any] = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key()))
    return jwk


_HEADERS: Final[Mapping[str, tuple[object, ...]]] = {
    "alg": (
        "none",
        "None",
        "",
        "HS256",
        "RS256",
        "PS256",
        "ES384",
        "ES512",
        "EdDSA",
        "es256",
        ["ES256"],
        None,
        _ABSENT,
    ),
    "kid": ("", "k2", "../../dev/null", "k1'--", 1, ["k1"], None, _ABSENT),
    "jwk": (public_jwk(STRANGER), "x"),
    "jku": ("https://attacker.test/keys",),
    "x5u": ("https://attacker.test/chain",),
    "x5c": (["MIIB"],),
    "crit": (["b64"], [], "b64", ["exp"], 5),
    "b64": (False, True),
    "typ": ("at+jwt", "JWE", 5),
    "zip": ("DEF",),
}
_CLAIMS: Final[Mapping[str, tuple[object, ...]]] = {
    "iss": ("https://attacker.test", "", ["i"], None, 5, _ABSENT),
    "aud": ("x", "", [], ["x"], ["x", ["a"]], {"connectors": 1}, None, 5, _ABSENT),
    "sub": ("", "a\r\nb", " a", "system:admin", ["me"], {"a": 1}, None, 5, "a" * 3000, _ABSENT),
    "exp": (0, -1, 1, True, "9999999999", math.nan, math.inf, -math.inf, 10**400, 1e400, [2**40], None, _ABSENT),
    "nbf": (2**40, math.nan, math.inf, "0", True, None, [0]),
    "iat": (2**40, math.nan, "0", None),
    "jti": ("", 5, [], None, _ABSENT),
    "groups": ("system:masters", ["system:masters"], [["a"]], [" a"], 5, None, ["a\n"]),
}


@dataclass(frozen=True, slots=True)
class Forgery:
    """Changes of a token that its issuer would sign, and the origin of the signature."""

    headers: Mapping[str, object]
    claims: Mapping[str, object]
    origin: str

    def changed_claims(self, good: Mapping[str, object]) -> dict[str, object]:
        return _changed(good, self.claims)

    def build(self, key: ec.EllipticCurvePrivateKey, good: Mapping[str, object], *, kid: str) -> str:
        header = _changed({"alg": "ES256", "typ": "JWT", "kid": kid}, self.headers)
        content = f"{_encode_json(header)}.{_encode_json(self.changed_claims(good))}"
        return f"{content}.{_encode(self._signature(key, content.encode()))}"

    def _signature(self, key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
        es256 = jwt.get_algorithm_by_name("ES256")
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        signers: dict[str, Callable[[], bytes]] = {
            GENUINE: lambda: es256.sign(content, key),
            "stranger": lambda: es256.sign(content, STRANGER),
            "another token's": lambda: es256.sign(content + b"x", key),
            "public key as a secret": lambda: hmac.digest(pem, content, "sha256"),
            "key's x as a secret": lambda: hmac.digest(str(public_jwk(key)["x"]).encode(), content, "sha256"),
            "zeros": lambda: bytes(64),
            "empty": lambda: b"",
            "cut": lambda: es256.sign(content, key)[:-1],
            "one byte differs": lambda: _flip(es256.sign(content, key)),
            "as DER": lambda: key.sign(content, ec.ECDSA(hashes.SHA256())),
        }
        return signers[self.origin]()


def _flip(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


def _changed(good: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**good, **changes}.items() if value is not _ABSENT}


def _encode_json(value: object) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _changes(values: Mapping[str, tuple[object, ...]]) -> st.SearchStrategy[dict[str, object]]:
    change = st.sampled_from(sorted(values)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(values[name]))
    )
    return st.lists(change, max_size=2).map(dict)


forgeries = st.builds(
    Forgery,
    headers=_changes(_HEADERS),
    claims=_changes(_CLAIMS),
    origin=st.just(GENUINE) | st.sampled_from(_ORIGINS),
)
edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.text("Aa_-.=! \n\0é", max_size=3)),
    min_size=1,
    max_size=3,
)
"""Each edit replaces some characters at a place, which is a share of the token's length."""


def edit(token: str, changes: list[tuple[float, int, str]]) -> str:
    for share, length, text in changes:
        place = int(share * len(token))
        token = token[:place] + text + token[place + length :]
    return token


def is_valid_time(value: object) -> bool:
    """Return True for a number that a clock can show."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 2**63
    )
