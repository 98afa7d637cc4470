"""Kind `serviceAccountTokenAuth`: the Secret's credential only issues tokens of one ServiceAccount of the target.

`spec.auth.params` has the parameters serviceAccount (NAMESPACE/NAME, required), expirationSeconds and audiences
(a list, or separated by commas). `connector_store.token_manager` sends the TokenRequest. This module parses its
response.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.base import rfc3339
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN, MAX_TOKEN_BYTES, BearerToken
from connector_store.domain.credential.client_certificate import CLIENT_CERTIFICATE
from connector_store.domain.credential.credentials import AuthParams, Credential, CredentialKind

DEFAULT_EXPIRATION_SECONDS: Final = 3600
MIN_EXPIRATION_SECONDS: Final = 600
"""Minimum that API servers accept (authentication.k8s.io/v1 TokenRequestSpec)."""
MAX_EXPIRATION_SECONDS: Final = 1 << 32
"""Maximum that API servers accept."""
RENEWAL_FRACTION: Final = 0.8
"""Fraction of its lifetime after which a token is renewed, as in kubelet."""
MIN_LIFETIME: Final = 10.0
"""Minimum lifetime of an issued token in seconds. Shorter tokens would cause continuous requests to the target."""

_ISSUED_AT_ROUNDING: Final = 1.0
"""Seconds to subtract from a lifetime. `iat` is rounded down, so the token was issued up to one second later."""

_ACCOUNT: Final = "serviceAccount"
_SECONDS: Final = "expirationSeconds"
_AUDIENCES: Final = "audiences"
_PARAMS: Final = (_ACCOUNT, _SECONDS, _AUDIENCES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """Parameters of a TokenRequest. Without audiences, the target uses its own."""

    service_account: ObjectKey
    expiration_seconds: int = DEFAULT_EXPIRATION_SECONDS
    audiences: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Path of the request, relative to the target's address."""
        return f"/api/v1/namespaces/{self.service_account.namespace}/serviceaccounts/{self.service_account.name}/token"

    @property
    def body(self) -> dict[str, Any]:
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": list(self.audiences), "expirationSeconds": self.expiration_seconds},
        }


class IssuingCredential(Credential):
    """Right to issue tokens. `credential` is the Secret's credential, which is sent only with `request`."""

    __slots__ = ("credential", "request")

    def __init__(self, credential: Credential, request: TokenRequest) -> None:
        super().__init__(None, credential.expires_at, credential.issued_at)
        self.credential: Final = credential
        self.request: Final = request

    def _comparison_key(self) -> object:
        return self.credential, self.request


class IssuedToken(BearerToken):
    """A token that a target issued.

    Its times are those of the issuing credential. The token itself is renewed, so its expiry needs no warning.
    """

    __slots__ = ()

    def __init__(self, token: str, issuer: Credential) -> None:
        Credential.__init__(self, b"Bearer " + token.encode("ascii"), issuer.expires_at, issuer.issued_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse:
    """An issued token and its lifetime in seconds from its receipt."""

    token: BearerToken
    lifetime: float


def parse_token_response(response: object, credential: IssuingCredential, *, now: float) -> TokenResponse:
    """Parse a target's response to a TokenRequest. `now` is in Unix seconds. ParseError does not quote the response.

    The lifetime is the difference between the token's `iat` and `exp`, which are from one clock. Without them, it is
    the time from `now` to the expirationTimestamp.
    """
    status = response.get("status") if isinstance(response, Mapping) else None
    token = status.get("token") if isinstance(status, Mapping) else None
    if not isinstance(status, Mapping) or not isinstance(token, str) or not token:
        raise ParseError("", "answered without a token")
    if len(token) > MAX_TOKEN_BYTES or not all(0x21 <= ord(character) <= 0x7E for character in token):
        raise ParseError("", "granted a token that cannot be sent")
    issued_at, expires_at = read_token_times(token)
    expiration = rfc3339.parse_time(status.get("expirationTimestamp"))
    if issued_at is not None and expires_at is not None:
        lifetime = expires_at - issued_at - _ISSUED_AT_ROUNDING
    elif expiration is not None or expires_at is not None:
        lifetime = (expiration or expires_at or 0.0) - now
    else:
        lifetime = float(credential.request.expiration_seconds)
    if lifetime <= 0:
        raise ParseError("", "granted a token that has expired already")
    if lifetime < MIN_LIFETIME:
        raise ParseError("", f"granted a token for {lifetime:.0f} s only")
    return TokenResponse(token=IssuedToken(token, credential), lifetime=lifetime)


def describe_failure(status: int, request: TokenRequest, secret: str) -> str:
    """Describe why a response with `status` has no token, and the next step."""
    account = request.service_account
    match status:
        case 401:
            return f'the target does not accept the credential in secrets "{secret}"; renew it there'
        case 403:
            return (
                f'the credential in secrets "{secret}" may not create serviceaccounts/token of "{account.name}" in '
                f'namespace "{account.namespace}" of the target; bind it to a Role that allows just that'
            )
        case 404:
            return (
                f'serviceaccounts "{account.name}" not found in namespace "{account.namespace}" of the target; '
                "create it, or correct spec.auth.params[serviceAccount]"
            )
        case 429:
            return "the target asks to come back later (429)"
        case _:
            return f"the target answered the request for a token with status code {status}"


def _derive(credential: Credential, params: AuthParams) -> IssuingCredential:
    names = [name for name, _ in params]
    for name in names:
        if name not in _PARAMS:
            raise ParseError(_param_path(name), "is no parameter of this auth type; use " + ", ".join(_PARAMS))
        if names.count(name) > 1:
            raise ParseError(_param_path(name), "is there twice; keep one of them")
    values = dict(params)
    return IssuingCredential(
        credential,
        TokenRequest(
            service_account=_parse_account(values.get(_ACCOUNT)),
            expiration_seconds=_parse_expiration_seconds(values.get(_SECONDS)),
            audiences=_parse_audiences(values.get(_AUDIENCES)),
        ),
    )


def _parse_account(text: str | None) -> ObjectKey:
    if text is None:
        raise ParseError(_param_path(_ACCOUNT), "is missing; name the ServiceAccount of the target as NAMESPACE/NAME")
    try:
        return ObjectKey.parse(text.strip())
    except ParseError:
        raise ParseError(_param_path(_ACCOUNT), "is not of the form NAMESPACE/NAME") from None


def _parse_expiration_seconds(text: str | None) -> int:
    if text is None:
        return DEFAULT_EXPIRATION_SECONDS
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 0
    if not MIN_EXPIRATION_SECONDS <= value <= MAX_EXPIRATION_SECONDS:
        raise ParseError(
            _param_path(_SECONDS),
            f"is not a number of seconds from {MIN_EXPIRATION_SECONDS} to {MAX_EXPIRATION_SECONDS}",
        )
    return value


def _parse_audiences(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    audiences = tuple(audience.strip() for audience in text.split(","))
    if not all(audiences):
        raise ParseError(_param_path(_AUDIENCES), "has an empty audience; leave the parameter out for the target's own")
    return audiences


def _param_path(name: str) -> str:
    return f"spec.auth.params[{name[:64]}]"


KIND: Final = CredentialKind(
    name="serviceAccountTokenAuth", secret_types=(BEARER_TOKEN, CLIENT_CERTIFICATE), requires_name=True, derive=_derive
)
