"""What a caller says of themselves: `Proxy-Authorization` on CONNECT, `Authorization` inside.

>>> parse_proxy_authorization(b"Basic dGVhbS1hL2s4czp0b2s=")
Caller(key=ObjectKey(namespace='team-a', name='k8s'))
>>> parse_bearer(b"Bearer tok")
'tok'

Errors never quote what was sent: it may be a token in the wrong place.
"""

import binascii
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey

TOKEN_COMES_INSIDE: Final = "x"  # noqa: S105 - the password that stands for "no token here"
MAX_AUTHORIZATION: Final = 16384
"""Bytes of a header value. ServiceAccount tokens have 1 to 2 kB."""

# token68 of RFC 9110 section 11.2, which is also b64token of RFC 6750 section 2.1
_TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The Connector that is asked for, and the token; None: it comes inside, with each request."""

    key: ObjectKey
    token: str | None = field(repr=False)


def parse_proxy_authorization(value: bytes | None) -> Caller:
    """Read `Basic base64("NAMESPACE/NAME:TOKEN")` (RFC 7617); the slash may be written `%2F`."""
    return _basic("Proxy-Authorization", value)


def parse_basic(value: bytes | None) -> Caller:
    """The same in `Authorization`, for requests to the proxy itself; the token is required."""
    caller = _basic("Authorization", value)
    if caller.token is None:
        raise ParseError("Authorization", "has no token; send Basic base64(NAMESPACE/NAME:TOKEN)")
    return caller


def parse_bearer(value: bytes | None) -> str:
    """Read `Bearer TOKEN` (RFC 6750 section 2.1)."""
    token = _credentials("Authorization", b"bearer", value)
    if _TOKEN.fullmatch(token) is None:
        raise ParseError("Authorization", "is not of the form Bearer TOKEN")
    return token.decode("ascii")


def _basic(header: str, value: bytes | None) -> Caller:
    try:
        decoded = binascii.a2b_base64(_credentials(header, b"basic", value), strict_mode=True)
    except binascii.Error:
        raise ParseError(header, "is not base64; send Basic base64(NAMESPACE/NAME:TOKEN)") from None
    user, colon, token = decoded.partition(b":")
    if not colon or _TOKEN.fullmatch(token) is None:
        raise ParseError(header, "has no valid token after the colon; send Basic base64(NAMESPACE/NAME:TOKEN)")
    try:
        key = ObjectKey.parse(unquote(user.decode("ascii")))
    except ValueError:
        raise ParseError(header, "names no Connector; its user is NAMESPACE/NAME or NAMESPACE%2FNAME") from None
    text = token.decode("ascii")
    return Caller(key=key, token=None if text == TOKEN_COMES_INSIDE else text)


def _credentials(header: str, scheme: bytes, value: bytes | None) -> bytes:
    if not value:
        raise ParseError(header, "is missing")
    if len(value) > MAX_AUTHORIZATION:
        raise ParseError(header, f"is longer than {MAX_AUTHORIZATION} bytes")
    found, _, rest = value.partition(b" ")
    if found.lower() != scheme:
        raise ParseError(header, f"does not have the scheme {scheme.decode().capitalize()}")
    return rest.strip(b" ")
