"""Callers' tokens in folder mode: short-lived JWTs (RFC 7519), signed with the proxy's own key.

`connectorctl` issues a token for one Connector, and the proxy verifies it. Both read the key from mitmproxy's confdir,
and the first of them creates it. Claims: `iss`, `aud`, `sub` (NAMESPACE/NAME), `iat`, `exp`, `jti`.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connector_store.cache import Lru
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused
from connector_store.domain.config.settings import AccessRule
from connector_store.store import Store

KEY_FILE: Final = "connector-callers-key.pem"
ISSUER: Final = "kubernetes-connector"
ALGORITHM: Final = "ES256"
MAX_TTL: Final = 24 * 3600
"""Maximum lifetime in seconds. A token is meant for one job. A longer job needs another token."""
MAX_TOKEN_LENGTH: Final = 4096
"""Maximum length of a token in characters. Our tokens have about 400."""
MAX_CACHED_TOKENS: Final = 4096
"""Maximum number of cached tokens. The least recently used one is evicted first."""
_MAX_KEY_BYTES: Final = 16 * 1024
_OTHER_CONNECTOR: Final = Refused(check="use", reason="the token is for another Connector")


class SigningKey:
    """Key that signs callers' tokens: EC P-256, PKCS #8 PEM, mode 0600."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._private_key = private_key
        self.public_key: Final = private_key.public_key()

    @classmethod
    def load_or_create(cls, confdir: Path) -> Self:
        """Read the key in `confdir`, and create it first if it is absent. Raises ParseError if it is not usable.

        Two processes that start at once get the same key, because the file is written completely before it gets its
        name.
        """
        path = confdir / KEY_FILE
        try:
            if not path.exists():
                _create_key(path)
            return cls(_read_key(path))
        except OSError as error:
            raise ParseError(str(path), f"{error.strerror}; make it a file that only this user can read") from error

    def issue(self, key: ObjectKey, *, ttl: int, now: float, audience: str) -> str:
        """Issue a token for Connector `key`. It is valid for `ttl` seconds from `now` (unix seconds)."""
        if not 0 < ttl <= MAX_TTL:
            raise ParseError("ttl", f"not between 1 s and {MAX_TTL} s")
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "sub": str(key),
            "iat": int(now),
            "exp": int(now) + ttl,
            "jti": secrets.token_urlsafe(12),
        }
        return jwt.encode(claims, self._private_key, algorithm=ALGORITHM)


def _create_key(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
    finally:
        temporary.unlink()


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_mode & 0o077:
            raise ParseError(str(path), f"others than its owner may use it; run: chmod 600 {path}")
        pem = stream.read(_MAX_KEY_BYTES)
    try:
        private_key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ParseError(str(path), "not a PEM private key; delete it to have a new one made") from error
    if not isinstance(private_key, ec.EllipticCurvePrivateKey) or not isinstance(private_key.curve, ec.SECP256R1):
        raise ParseError(str(path), "not an EC P-256 key; delete it to have a new one made")
    return private_key


@dataclass(frozen=True, slots=True, kw_only=True)
class _VerifiedToken:
    key: ObjectKey | None
    """Key of the token's Connector, or None if the subject is not a key."""
    expires_at: float
    identity: Identity


class TokenAccess:
    """`Access` for callers' tokens. It never waits, so `check_cached` always has the answer."""

    revocation_count: Final = 0
    """Tokens are not revoked before their expiry."""

    def __init__(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *,
        audience: str,
        recheck: float,
        now: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        max_cached: int = MAX_CACHED_TOKENS,
    ) -> None:
        """Create the access. `now` is in unix seconds. `clock` is the clock of `Granted.valid_until`.

        A result is valid for at most `recheck` seconds, because the clock stands still while a laptop sleeps.
        """
        self._public_key = public_key
        self._audience = audience
        self._recheck = recheck
        self._now = now
        self._clock = clock
        self._cache = Lru[bytes, _VerifiedToken](max_cached)

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult:
        """Verify the token, with a cache."""
        result = self._verify(token)
        if isinstance(result, Refused):
            return result
        remaining = result.expires_at - self._now()
        if remaining <= 0:
            return Refused(check="token", reason="the token has expired")
        if result.key != key:
            return _OTHER_CONNECTOR
        valid_until = self._clock() + min(self._recheck, remaining)
        return Granted(identity=result.identity, token_expires_at=result.expires_at, valid_until=valid_until)

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        return self.check_cached(token, key)

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        """Check a live connection. Its token's expiry closes it, because there is no owner to look for."""
        result = self.check_cached(token, key)
        if isinstance(result, Granted) and result.identity != identity:
            return Refused(check="token", reason="another caller's token")
        return result

    def _verify(self, token: str) -> _VerifiedToken | Refused:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        cached = self._cache.get(digest)
        if cached is not None:
            return cached
        result = self._decode(token)
        if isinstance(result, _VerifiedToken):
            self._cache.put(digest, result)
        return result

    def _decode(self, token: str) -> _VerifiedToken | Refused:
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            return Refused(check="token", reason=f"not ASCII, or longer than {MAX_TOKEN_LENGTH} characters")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public_key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                options={"require": ["exp", "sub", "jti", "aud", "iss"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            return Refused(check="token", reason=_refusal_reason(error))
        subject, expires_at = claims["sub"], claims["exp"]
        if not isinstance(expires_at, int):
            return Refused(check="token", reason="not a token of this proxy")
        identity = Identity(user=subject, uid=str(claims["jti"]))
        return _VerifiedToken(key=_parse_subject(subject), expires_at=expires_at, identity=identity)


class BindingAuthorizer:
    """Authorizer of callers that an OIDC issuer authenticated. It uses the Roles and bindings among the manifests."""

    def __init__(self, store: Store, rule: AccessRule) -> None:
        self._store = store
        self._rule = rule

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused:
        """Check the right. It never waits, because the manifests are in memory."""
        if self._store.bindings.allows(identity, self._rule, key):
            return True
        return Refused(check="use", reason=f"{identity.user} may not {self._rule} {key}")


def _refusal_reason(error: jwt.InvalidTokenError) -> str:
    # PyJWT's texts may quote the token's claims.
    match error:
        case jwt.InvalidAudienceError():
            return "the token is for another audience"
        case jwt.InvalidSignatureError():
            return "the token is not signed by this proxy"
        case _:
            return "not a token of this proxy"


def _parse_subject(subject: str) -> ObjectKey | None:
    try:
        return ObjectKey.parse(subject)
    except ParseError:
        return None
