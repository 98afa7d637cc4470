"""Verification of callers' tokens in folder mode. `signing_key` has the key and the form of the tokens."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from connector_store.boot_time import boot_time
from connector_store.cache import Lru
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused
from connector_store.domain.config.settings import AccessRule
from connector_store.folder.signing_key import ALGORITHM, ISSUER, parse_caller_name
from connector_store.store import Store

MAX_TOKEN_LENGTH: Final = 4096
"""Maximum length of a token in characters. Our tokens have about 400."""
MAX_CACHED_TOKENS: Final = 4096
"""Maximum number of cached tokens. The least recently used one is evicted first."""
_MAX_TIME_BITS: Final = 63
"""Maximum size of an expiry in Unix seconds, as in a Go program. A larger one can overflow a float."""
_OTHER_CONNECTOR: Final = Refused(check="use", reason="the token is for another Connector")


@dataclass(frozen=True, slots=True, kw_only=True)
class _VerifiedToken:
    key: ObjectKey | None
    """Key of the token's Connector, or None if the subject is not a key."""
    expires_at: float
    identity: Identity
    is_named: bool
    """The token has the name of a caller, to whom bindings apply."""


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
        clock: Callable[[], float] = boot_time,
        may_use: Callable[[Identity, ObjectKey], bool] = lambda identity, key: True,
        max_cached: int = MAX_CACHED_TOKENS,
    ) -> None:
        """Create the access. `now` is in unix seconds. `clock` is the clock of `Granted.valid_until`.

        A result is valid for at most `recheck` seconds, because the node's clock can be set back. `may_use` returns
        whether a named caller may use a Connector. The token is the right of callers without a name.
        """
        self._public_key = public_key
        self._audience = audience
        self._recheck = recheck
        self._now = now
        self._clock = clock
        self._may_use = may_use
        self._cache = Lru[bytes, _VerifiedToken](max_cached)

    def check_cached(self, token: str, key: ObjectKey) -> Granted | Refused:
        """Verify the token, with a cache."""
        result = self._verify(token)
        granted = self._grant(result)
        if isinstance(result, _VerifiedToken) and isinstance(granted, Granted):
            return self._use_refusal(result, key) or granted
        return granted

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        return self.check_cached(token, key)

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        """Check the token of a live connection. Its expiry closes it, because there is no owner to look for."""
        result = self._grant(self._verify(token))
        if isinstance(result, Granted) and result.identity != identity:
            return Refused(check="token", reason="another caller's token")
        return result

    async def recheck_use(self, token: str, identity: Identity, key: ObjectKey) -> Literal[True] | Refused:
        """Check that the token is for `key`, and that a named caller may use it. The cache has the token."""
        result = self._verify(token)
        return result if isinstance(result, Refused) else self._use_refusal(result, key) or True

    def _use_refusal(self, verified: _VerifiedToken, key: ObjectKey) -> Refused | None:
        if verified.key != key:
            return _OTHER_CONNECTOR
        if verified.is_named and not self._may_use(verified.identity, key):
            return Refused(check="use", reason=f"no binding of the folder allows {verified.identity.user} to use {key}")
        return None

    def _grant(self, result: _VerifiedToken | Refused) -> Granted | Refused:
        if isinstance(result, Refused):
            return result
        remaining = result.expires_at - self._now()
        if remaining <= 0:
            return Refused(check="token", reason="the token has expired")
        return Granted(
            identity=result.identity,
            token_expires_at=result.expires_at,
            valid_until=self._clock() + min(self._recheck, remaining),
            ends_with_token=True,
        )

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
        subject, expires_at, name = claims["sub"], claims["exp"], claims.get("caller")
        if not isinstance(expires_at, int) or expires_at.bit_length() > _MAX_TIME_BITS:
            return Refused(check="token", reason="not a token of this proxy")
        try:
            user = subject if name is None else parse_caller_name(str(name))
        except ParseError:
            return Refused(check="token", reason="not a token of this proxy")
        identity = Identity(user=user, uid=str(claims["jti"]))
        return _VerifiedToken(
            key=_parse_subject(subject), expires_at=expires_at, identity=identity, is_named=name is not None
        )


class BindingAuthorizer:
    """Authorizer of callers that an OIDC issuer authenticated. It uses the Roles and bindings among the manifests."""

    def __init__(self, store: Store, rule: AccessRule) -> None:
        self._store = store
        self._rule = rule

    def allows_named(self, identity: Identity, key: ObjectKey) -> bool:
        """Return True if a named caller may use `key`: by a binding, or by the token alone if there are no bindings."""
        bindings = self._store.bindings
        return bindings.is_empty or bindings.allows(identity, self._rule, key)

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused:
        """Check the right. It never waits, because the manifests are in memory."""
        if self._store.bindings.allows(identity, self._rule, key):
            return True
        return Refused(check="use", reason=f"{identity.user} may not {self._rule} {key}", has_opinion=False)


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
