"""Pod tokens that kubelet sends to a CSI driver (KEP-2047; KEP-5538 for `secrets`).

`csi.storage.k8s.io/serviceAccount.tokens` is `{"AUDIENCE": {"token": "…", "expirationTimestamp": "…"}}`. Since 1.35,
kubelet can put it into the request's secrets instead of the volume context.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import read_token_times

TOKENS_KEY: Final = "csi.storage.k8s.io/serviceAccount.tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodToken:
    """A pod's token.

    `lifetime` is in seconds from issue to expiry, `expires_at` in Unix seconds. None means that the token has no such
    claim.
    """

    token: str = field(repr=False)
    lifetime: float | None = None
    expires_at: float | None = None


def parse_pod_token(secrets: Mapping[str, str], context: Mapping[str, str], audience: str) -> PodToken:
    """Return the token for `audience`, from `secrets` or else from `context`. ParseError never quotes the input."""
    text = secrets.get(TOKENS_KEY) or context.get(TOKENS_KEY)
    if not text:
        raise ParseError(
            TOKENS_KEY, f"is missing; the CSIDriver object must have spec.tokenRequests with audience {audience}"
        )
    try:
        tokens = json.loads(text)
        token = tokens[audience]["token"] if audience in tokens else None
    except (ValueError, TypeError, KeyError, RecursionError):
        # `from None`: a JSON error contains the document.
        raise ParseError(
            TOKENS_KEY, "is not what kubelet sends: JSON of audience -> {token, expirationTimestamp}"
        ) from None
    if token is None:
        raise ParseError(TOKENS_KEY, f"has none for audience {audience}; add it to spec.tokenRequests of the CSIDriver")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ParseError(TOKENS_KEY, f"has something else than a token for audience {audience}")
    issued_at, expires_at = read_token_times(token)
    lifetime = expires_at - issued_at if issued_at is not None and expires_at is not None else None
    return PodToken(token=token, lifetime=lifetime, expires_at=expires_at)
