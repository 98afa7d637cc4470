"""Parser of a JSON Web Key Set (RFC 7517): the public keys that can verify a caller's token.

Only asymmetric algorithms of the Kubernetes API server are supported. Other keys are ignored, because an issuer can
list keys for other uses. A key that contains its private part proves nothing and is ignored, as is an RSA key of less
than 2048 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from connector_store.domain.base.errors import ParseError

MAX_KEYS: Final = 100
"""Maximum number of keys of one issuer. Typical issuers have two to ten."""
MIN_RSA_BITS: Final = 2048
"""Minimum size of an RSA key (RFC 7518 section 3.3)."""
_RSA_ALGORITHMS: Final[tuple[str, ...]] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALGORITHMS_BY_CURVE: Final[Mapping[str, tuple[str, ...]]] = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
}
ALGORITHMS: Final = frozenset([*_RSA_ALGORITHMS, *(name for names in _ALGORITHMS_BY_CURVE.values() for name in names)])


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A public key. `kid` is empty if the issuer does not name it. `algorithms` are those that it can verify."""

    kid: str
    algorithms: tuple[str, ...]
    jwk: jwt.PyJWK


@dataclass(frozen=True, slots=True)
class KeySet:
    """Usable keys of an issuer."""

    keys: tuple[VerificationKey, ...]

    def has_key(self, kid: str) -> bool:
        return any(key.kid == kid for key in self.keys)

    def find(self, kid: str, algorithm: str) -> tuple[VerificationKey, ...]:
        """Return the candidate keys of a signature: those named `kid`, or the only key if `kid` is empty."""
        if not kid and len(self.keys) > 1:
            return ()
        return tuple(key for key in self.keys if (not kid or key.kid == kid) and algorithm in key.algorithms)


def parse_key_set(document: object) -> KeySet:
    """Parse a key set. Raises ParseError if it is not a key set, or has too many keys."""
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ParseError("keys", "is not a list: this is no JSON Web Key Set")
    if len(entries) > MAX_KEYS:
        raise ParseError("keys", f"has more than {MAX_KEYS} keys")
    keys = (_parse_key(entry) for entry in entries)
    return KeySet(tuple(key for key in keys if key is not None))


def _parse_key(entry: object) -> VerificationKey | None:
    if not isinstance(entry, Mapping) or "d" in entry or entry.get("use", "sig") != "sig":
        return None
    match entry.get("kty"):
        case "RSA":
            algorithms = _RSA_ALGORITHMS
        case "EC":
            algorithms = _ALGORITHMS_BY_CURVE.get(str(entry.get("crv")), ())
        case _:
            return None
    algorithm = entry.get("alg")
    usable_algorithms = tuple(name for name in algorithms if algorithm in (None, name))
    if not usable_algorithms:
        return None
    try:
        jwk = jwt.PyJWK({**entry, "alg": usable_algorithms[0]})
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(jwk.key, rsa.RSAPublicKey) and jwk.key.key_size < MIN_RSA_BITS:
        return None
    return VerificationKey(kid=str(entry.get("kid") or ""), algorithms=usable_algorithms, jwk=jwk)
