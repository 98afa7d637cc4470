"""Verifies a token of a configured issuer: signature (RFC 7515), times and audience (RFC 7519), and claims."""

from dataclasses import dataclass
from typing import Any, Final

import jwt

from connector_store.domain.base.errors import ParseError
from connector_store.domain.callers.access import Granted, Refused, Unavailable
from connector_store.domain.callers.authentication_config import Issuer
from connector_store.oidc.issuer_keys import IssuerKeys, KeysUnavailableError
from connector_store.oidc.key_set import ALGORITHMS, VerificationKey

MAX_TOKEN_LENGTH: Final = 16 * 1024
"""Maximum length of a token in characters, the same as of an Authorization header."""
MAX_TIME: Final = 2.0**63
"""Limit of a time in Unix seconds, as in a Go program."""
NOT_BEFORE_LEEWAY: Final = 300.0
"""Seconds that a token is valid before its `nbf`, because clocks differ. There is no leeway after `exp` (go-oidc)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedToken:
    """Unverified issuer, algorithm and key name of a token."""

    issuer: str
    algorithm: str
    kid: str


def read_unverified(token: str) -> UnverifiedToken | None:
    """Read a token without verifying it. Return None if it is not a signed JWT with an issuer."""
    if len(token) > MAX_TOKEN_LENGTH or token.count(".") != 2:
        return None
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    header, issuer = parts["header"], parts["payload"].get("iss")
    algorithm, kid = header.get("alg"), header.get("kid", "")
    # RFC 7515 section 4.1.11: an unsupported critical header makes the token invalid.
    if not all(isinstance(value, str) for value in (issuer, algorithm, kid)) or "crit" in header:
        return None
    return UnverifiedToken(issuer=issuer, algorithm=algorithm, kid=kid)


async def verify_token(
    token: str,
    unverified: UnverifiedToken,
    issuer: Issuer,
    keys: IssuerKeys,
    *,
    source_ip: str,
    now: float,
) -> Granted | Refused | Unavailable:
    """Verify a token from `source_ip`, and return its caller. `now` is in Unix seconds."""
    if unverified.algorithm not in ALGORITHMS:
        return Refused(check="token", reason="its algorithm is not supported")
    try:
        candidates = await keys.find(unverified.kid, unverified.algorithm, source_ip)
    except KeysUnavailableError as error:
        return Unavailable(
            reason=str(error),
            kind="issuer_keys",
            retry_after=5,
            public_reason=f"issuer {issuer.url} cannot be asked for its keys",
        )
    for key in candidates:
        claims = _decode(token, key, unverified.algorithm, issuer)
        if not isinstance(claims, Refused):
            return _grant(claims, issuer, now)
        if len(candidates) == 1:
            return claims
    return Refused(check="token", reason="it is not signed by a key of its issuer")


def _decode(token: str, key: VerificationKey, algorithm: str, issuer: Issuer) -> dict[str, Any] | Refused:
    try:
        return jwt.decode(
            token,
            key.jwk.key,
            algorithms=[algorithm],
            audience=issuer.audiences,
            issuer=issuer.url,
            options={
                "require": ["exp", "iss", "aud"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except jwt.InvalidTokenError as error:
        return Refused(check="token", reason=_describe_error(error))


def _grant(claims: dict[str, Any], issuer: Issuer, now: float) -> Granted | Refused:
    expires_at, not_before = claims["exp"], claims.get("nbf", 0)
    if not all(map(_is_time, (expires_at, not_before))):
        return Refused(check="token", reason="its times are not numbers")
    if expires_at <= now:
        return Refused(check="token", reason="the token has expired")
    if not_before > now + NOT_BEFORE_LEEWAY:
        return Refused(check="token", reason="the token is not good yet")
    try:
        return Granted(identity=issuer.identify(claims), token_expires_at=float(expires_at), ends_with_token=True)
    except ParseError as error:
        return Refused(check="token", reason=f"claim {error}")


def _is_time(claim: object) -> bool:
    # JSON parsers of Python accept NaN and Infinity, and integers that no float can represent.
    return isinstance(claim, int | float) and not isinstance(claim, bool) and abs(claim) < MAX_TIME


def _describe_error(error: jwt.InvalidTokenError) -> str:
    # The texts of PyJWT can quote the token's claims.
    match error:
        case jwt.InvalidAudienceError():
            return "the token is for another audience"
        case jwt.InvalidSignatureError():
            return "it is not signed by a key of its issuer"
        case jwt.MissingRequiredClaimError(claim=claim):
            return f"it has no {claim}"
        case _:
            return "not a token that can be read"
