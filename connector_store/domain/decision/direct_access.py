"""The direct door: a request that is sent to the proxy as if it were the target.

Its path names the Connector (`/connectors/NAMESPACE/NAME/…`), or its host does, an alias of the proxy.

>>> by_path(b"/connectors/team-a/k8s/api/v1/pods?limit=5")
Named(key=ObjectKey(namespace='team-a', name='k8s'), target=b'/api/v1/pods?limit=5')
"""

import re
from typing import Final, NamedTuple

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.authorization_header import parse_basic, parse_bearer
from connector_store.domain.objects.models import Address

PATH_PREFIX: Final = b"/connectors/"
_PATH: Final = re.compile(rb"/connectors/([a-z0-9.-]+/[a-z0-9.-]+)(/[^?]*)?(\?.*)?")


class DirectRequest(NamedTuple):
    """A Connector, and the request target without what named it."""

    key: ObjectKey
    target: bytes


def parse_direct_path(target: bytes) -> DirectRequest | None:
    """Read a request target in the path form; None if it names no Connector. Nothing of it is decoded."""
    match = _PATH.fullmatch(target)
    if match is None:
        return None
    try:
        key = ObjectKey.parse(match[1].decode("ascii"))
    except ParseError:
        return None
    return DirectRequest(key, (match[2] or b"/") + (match[3] or b""))


def parse_request_token(headers: Headers, key: ObjectKey) -> str:
    """The caller's token: `Bearer TOKEN`, or `Basic base64("NAMESPACE/NAME:TOKEN")` for that very Connector."""
    if headers.values(b"proxy-authorization"):
        raise ParseError("Proxy-Authorization", "is for CONNECT; send the token in Authorization, and only there")
    value = headers.single_value(b"authorization")
    if value is None or value[:6].lower() != b"basic ":
        return parse_bearer(value)
    caller = parse_basic(value)
    if caller.key != key:
        raise ParseError("Authorization", "names another Connector than the address of the request")
    return caller.token or ""


def with_target_host(headers: Headers, address: Address) -> Headers:
    """The fields for the target: its own Host in place of the proxy's."""
    return Headers([(b"Host", host_header(address)), *(each for each in headers if each[0].lower() != b"host")])


def host_header(address: Address) -> bytes:
    """As clients say it: without the port of https (RFC 9110 section 7.2)."""
    authority = address.authority
    return (authority.removesuffix(":443") if address.port == 443 else authority).encode("ascii")
