"""The kind `serviceAccountTokenAuth`: what the Secret holds may only mint tokens of one ServiceAccount of the target.

`spec.auth.params` says which: serviceAccount (NAMESPACE/NAME, required), expirationSeconds, audiences (separated by
commas, or a list). Asking the target for tokens is `connector_store.minter`'s; what it was granted is judged here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.base import rfc3339
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import token_times
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN, MAX_TOKEN, BearerToken
from connector_store.domain.credential.client_certificate import CLIENT_CERTIFICATE
from connector_store.domain.credential.credentials import Credential, Kind, Params

DEFAULT_SECONDS: Final = 3600
LEAST_SECONDS: Final = 600
"""Less is refused by every API server (authentication.k8s.io/v1 TokenRequestSpec)."""
MOST_SECONDS: Final = 1 << 32
"""More is refused as well."""
RENEW_AT: Final = 0.8
"""Of its life that a token has had when it is renewed, as kubelet does it."""
SHORTEST_LIFE: Final = 10.0
"""Seconds; a target that grants less would be asked without end."""

_CUT_OFF: Final = 1.0
"""Seconds: `iat` is whole, so a token was issued up to that much later than it says, and lives so much shorter."""

_ACCOUNT: Final = "serviceAccount"
_SECONDS: Final = "expirationSeconds"
_AUDIENCES: Final = "audiences"
_PARAMS: Final = (_ACCOUNT, _SECONDS, _AUDIENCES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOrder:
    """What to ask for (TokenRequest); without audiences the target's own."""

    service_account: ObjectKey
    seconds: int = DEFAULT_SECONDS
    audiences: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Below the target's prefix."""
        return f"/api/v1/namespaces/{self.service_account.namespace}/serviceaccounts/{self.service_account.name}/token"

    @property
    def body(self) -> dict[str, Any]:
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": list(self.audiences), "expirationSeconds": self.seconds},
        }


class MintingRight(Credential):
    """`by` is what the Secret holds. It is never sent with a request of a caller: `order` has to be minted first."""

    __slots__ = ("by", "order")

    def __init__(self, by: Credential, order: TokenOrder) -> None:
        super().__init__(None, by.expires)
        self.by: Final = by
        self.order: Final = order

    def _secret(self) -> object:
        return self.by, self.order


class MintedToken(BearerToken):
    """`expires` is the end of what it was minted by: it itself is renewed, and nobody has to be warned of its end."""

    __slots__ = ()

    def __init__(self, token: str, expires: float | None) -> None:
        Credential.__init__(self, b"Bearer " + token.encode("ascii"), expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A minted token and for how many seconds from its receipt it is good."""

    token: BearerToken
    life: float


def parse_grant(answer: object, right: MintingRight, *, now: float) -> Grant:
    """Read what a target has answered to its order; `now` is in unix seconds. ParseError quotes nothing of it.

    How long a token lives is what its own two times say, which are of one clock; else its expirationTimestamp by ours.
    """
    status = answer.get("status") if isinstance(answer, Mapping) else None
    token = status.get("token") if isinstance(status, Mapping) else None
    if not isinstance(status, Mapping) or not isinstance(token, str) or not token:
        raise ParseError("", "answered without a token")
    if len(token) > MAX_TOKEN or not all(0x21 <= ord(each) <= 0x7E for each in token):
        raise ParseError("", "granted a token that cannot be sent")
    issued, ends = token_times(token)
    stamp = rfc3339.parse(status.get("expirationTimestamp"))
    if issued is not None and ends is not None:
        life = ends - issued - _CUT_OFF
    elif stamp is not None or ends is not None:
        life = (stamp or ends or 0.0) - now
    else:
        life = float(right.order.seconds)
    if life <= 0:
        raise ParseError("", "granted a token that has expired already")
    if life < SHORTEST_LIFE:
        raise ParseError("", f"granted a token for {life:.0f} s only")
    return Grant(token=MintedToken(token, right.expires), life=life)


def refusal(status: int, order: TokenOrder, secret: str) -> str:
    """Why there is no token, and what to do, of an answer with that status."""
    account = order.service_account
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


def _lend(held: Credential, params: Params) -> MintingRight:
    names = [name for name, _ in params]
    for name in names:
        if name not in _PARAMS:
            raise ParseError(_at(name), "is no parameter of this auth type; use " + ", ".join(_PARAMS))
        if names.count(name) > 1:
            raise ParseError(_at(name), "is there twice; keep one of them")
    given = dict(params)
    return MintingRight(
        held,
        TokenOrder(
            service_account=_account(given.get(_ACCOUNT)),
            seconds=_seconds(given.get(_SECONDS)),
            audiences=_audiences(given.get(_AUDIENCES)),
        ),
    )


def _account(text: str | None) -> ObjectKey:
    if text is None:
        raise ParseError(_at(_ACCOUNT), "is missing; name the ServiceAccount of the target as NAMESPACE/NAME")
    try:
        return ObjectKey.parse(text.strip())
    except ParseError:
        raise ParseError(_at(_ACCOUNT), "is not of the form NAMESPACE/NAME") from None


def _seconds(text: str | None) -> int:
    if text is None:
        return DEFAULT_SECONDS
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 0
    if not LEAST_SECONDS <= value <= MOST_SECONDS:
        raise ParseError(_at(_SECONDS), f"is not a number of seconds from {LEAST_SECONDS} to {MOST_SECONDS}")
    return value


def _audiences(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    found = tuple(each.strip() for each in text.split(","))
    if not all(found):
        raise ParseError(_at(_AUDIENCES), "has an empty audience; leave the parameter out for the target's own")
    return found


def _at(name: str) -> str:
    return f"spec.auth.params[{name[:64]}]"


KIND: Final = Kind(
    name="serviceAccountTokenAuth", secret_types=(BEARER_TOKEN, CLIENT_CERTIFICATE), by_name=True, lend=_lend
)
