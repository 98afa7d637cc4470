"""Unverified claims of a token. They suffice to reject a token that no API server would accept.

>>> rejection_reason("secret", "connectors-proxy", now=0)
'it is not a JWT'
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from connector_store.domain.base.expiry import read_token_times


def parse_claims(token: str) -> Mapping[str, Any] | None:
    """Return the payload of a JWT (RFC 7519 section 3), or None if `token` is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def parse_issuer(token: str) -> str:
    """Return the claim `iss`, or an empty string."""
    issuer_claim = (parse_claims(token) or {}).get("iss")
    return issuer_claim if isinstance(issuer_claim, str) else ""


def rejection_reason(token: str, audience: str, *, now: float) -> str | None:
    """Return why no API server would accept `token` for `audience` at `now` (Unix seconds), or None if one might."""
    payload = parse_claims(token)
    if payload is None:
        return "it is not a JWT"
    audiences = payload.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        return f"it is not for audience {audience}"
    expires_at = read_token_times(token).expires_at
    return "it has expired" if expires_at is not None and expires_at <= now else None
