"""What a token says of itself, unverified: enough to tell that nobody need be asked about it.

>>> why_not_ours("secret", "connectors-proxy", now=0)
'it is no JWT'
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from connector_store.domain.base.expiry import token_times


def claims(token: str) -> Mapping[str, Any] | None:
    """The payload of a JWT (RFC 7519 section 3); None if it is none."""
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def issuer(token: str) -> str:
    """`iss`; empty where there is none."""
    found = (claims(token) or {}).get("iss")
    return found if isinstance(found, str) else ""


def why_not_ours(token: str, audience: str, *, now: float) -> str | None:
    """Why no API server would accept it for `audience` at `now` (unix seconds); None if one might."""
    found = claims(token)
    if found is None:
        return "it is no JWT"
    named = found.get("aud")
    if audience not in (named if isinstance(named, list) else [named]):
        return f"it is not for audience {audience}"
    expires = token_times(token).expires
    return "it has expired" if expires is not None and expires <= now else None
