"""What a token says of itself, unverified: enough to tell that nobody need be asked about it.

>>> why_not_ours("secret", "connectors-proxy", now=0)
'it is no JWT'
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from connector_store.domain.base.expiry import read_token_times


def parse_claims(token: str) -> Mapping[str, Any] | None:
    """The payload of a JWT (RFC 7519 section 3); None if it is none."""
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def parse_issuer(token: str) -> str:
    """`iss`; empty where there is none."""
    issuer_claim = (parse_claims(token) or {}).get("iss")
    return issuer_claim if isinstance(issuer_claim, str) else ""


def rejection_reason(token: str, audience: str, *, now: float) -> str | None:
    """Why no API server would accept it for `audience` at `now` (unix seconds); None if one might."""
    payload = parse_claims(token)
    if payload is None:
        return "it is no JWT"
    audiences = payload.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        return f"it is not for audience {audience}"
    expires_at = read_token_times(token).expires_at
    return "it has expired" if expires_at is not None and expires_at <= now else None
