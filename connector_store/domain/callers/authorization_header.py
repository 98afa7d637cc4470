"""Parsers of `Proxy-Authorization` on CONNECT, and of `Authorization` on requests.

>>> parse_proxy_authorization(b"Basic dGVhbS1hL2s4czp0b2s=")
BasicAuthorization(key=ObjectKey(namespace='team-a', name='k8s'))
>>> parse_bearer(b"Bearer tok")
'tok'

Errors never quote the header's value, because it can be a token in the wrong place.
"""

import binascii
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey

TOKEN_IN_REQUESTS: Final = "x"  # noqa: S105 - the password that stands for "no token here"
MAX_AUTHORIZATION_BYTES: Final = 16384
"""Maximum length of a header value in bytes. ServiceAccount tokens have 1 to 2 kB."""

# token68 of RFC 9110 section 11.2, which is also b64token of RFC 6750 section 2.1
_TOKEN68 = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuthorization:
    """Basic authorization: the requested Connector and the caller's token.

    `token` is None if each request in the tunnel carries the token.
    """

    key: ObjectKey
    token: str | None = field(repr=False)


def parse_proxy_authorization(value: bytes | None) -> BasicAuthorization:
    """Parse `Basic base64("NAMESPACE/NAME:TOKEN")` (RFC 7617). The slash can be written `%2F`."""
    return _parse_basic("Proxy-Authorization", value)


def parse_basic(value: bytes | None) -> BasicAuthorization:
    """Parse the Basic scheme of `Authorization`, for requests to the proxy itself. The token is required."""
    authorization = _parse_basic("Authorization", value)
    if authorization.token is None:
        raise ParseError("Authorization", "has no token; send Basic base64(NAMESPACE/NAME:TOKEN)")
    return authorization


def parse_bearer(value: bytes | None) -> str:
    """Parse `Bearer TOKEN` (RFC 6750 section 2.1)."""
    token = _parse_credentials("Authorization", b"bearer", value)
    if _TOKEN68.fullmatch(token) is None:
        raise ParseError("Authorization", "is not of the form Bearer TOKEN")
    return token.decode("ascii")


def _parse_basic(header: str, value: bytes | None) -> BasicAuthorization:
    try:
        decoded = binascii.a2b_base64(_parse_credentials(header, b"basic", value), strict_mode=True)
    except binascii.Error:
        raise ParseError(header, "is not base64; send Basic base64(NAMESPACE/NAME:TOKEN)") from None
    username, colon, token = decoded.partition(b":")
    if not colon or _TOKEN68.fullmatch(token) is None:
        raise ParseError(header, "has no valid token after the colon; send Basic base64(NAMESPACE/NAME:TOKEN)")
    try:
        key = ObjectKey.parse(unquote(username.decode("ascii")))
    except ValueError:
        raise ParseError(header, "names no Connector; its user is NAMESPACE/NAME or NAMESPACE%2FNAME") from None
    password = token.decode("ascii")
    return BasicAuthorization(key=key, token=None if password == TOKEN_IN_REQUESTS else password)


def _parse_credentials(header: str, scheme: bytes, value: bytes | None) -> bytes:
    if not value:
        raise ParseError(header, "is missing; use a kubeconfig of connectorctl or of a volume, which has the token")
    if len(value) > MAX_AUTHORIZATION_BYTES:
        raise ParseError(header, f"is longer than {MAX_AUTHORIZATION_BYTES} bytes")
    actual_scheme, _, credentials = value.partition(b" ")
    if actual_scheme.lower() != scheme:
        raise ParseError(header, f"does not have the scheme {scheme.decode().capitalize()}")
    return credentials.strip(b" ")
