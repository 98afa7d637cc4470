"""Direct access: requests that the client sends to the proxy as the server.

The path names the Connector (`/connectors/NAMESPACE/NAME/…`), or the host does, as an alias of the proxy.

>>> parse_direct_path(b"/connectors/team-a/k8s/api/v1/pods?limit=5")
DirectRequest(key=ObjectKey(namespace='team-a', name='k8s'), target=b'/api/v1/pods?limit=5')
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
    """Connector and target of a request. `target` does not have the part that names the Connector."""

    key: ObjectKey
    target: bytes


def parse_direct_path(target: bytes) -> DirectRequest | None:
    """Parse a request target that names a Connector, without decoding it. Return None if it names none."""
    match = _PATH.fullmatch(target)
    if match is None:
        return None
    try:
        key = ObjectKey.parse(match[1].decode("ascii"))
    except ParseError:
        return None
    return DirectRequest(key, (match[2] or b"/") + (match[3] or b""))


def parse_request_token(headers: Headers, key: ObjectKey) -> str:
    """Return the token from `Bearer TOKEN`, or from `Basic base64("NAMESPACE/NAME:TOKEN")` with the Connector `key`."""
    if headers.values(b"proxy-authorization"):
        raise ParseError("Proxy-Authorization", "is for CONNECT; send the token in Authorization, and only there")
    value = headers.single_value(b"authorization")
    if value is None or value[:6].lower() != b"basic ":
        return parse_bearer(value)
    authorization = parse_basic(value)
    if authorization.key != key:
        raise ParseError("Authorization", "names another Connector than the address of the request")
    return authorization.token or ""


def with_target_host(headers: Headers, address: Address) -> Headers:
    """Return `headers` with the target's Host in place of the proxy's."""
    return Headers([(b"Host", host_header(address)), *(header for header in headers if header[0].lower() != b"host")])


def host_header(address: Address) -> bytes:
    """Return the Host header for `address`, without the default port of https (RFC 9110 section 7.2)."""
    authority = address.authority
    return (authority.removesuffix(":443") if address.port == 443 else authority).encode("ascii")
