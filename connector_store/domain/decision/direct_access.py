"""Direct access: requests that the client sends to the proxy as the server.

The path names the Connector (`/connectors/NAMESPACE/NAME/…`), or the host does, as an alias of the proxy.

>>> parse_direct_path(b"/connectors/team-a/k8s/api/v1/pods?limit=5")
DirectRequest(key=ObjectKey(namespace='team-a', name='k8s'), target=b'/api/v1/pods?limit=5')
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.authorization_header import parse_basic, parse_bearer
from connector_store.domain.objects.address_matching import host_matches, is_path_within, is_traversal_free
from connector_store.domain.objects.models import Address

PATH_PREFIX: Final = b"/connectors/"
_PATH: Final = re.compile(rb"/connectors/([a-z0-9.-]+/[a-z0-9.-]+)(/[^?]*)?(\?.*)?")
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
"""Values of Sec-Fetch-Site for requests of a page of the same origin, and for those of the user."""
_COOKIE_DOMAIN: Final = re.compile(rb";[ \t]*domain[ \t]*=", re.IGNORECASE)
_NOT_IN_URL: Final = re.compile(rb"[^\x21-\x7e]|\\")
"""Bytes that clients drop or read in different ways in a URL. Browsers read a backslash as a slash."""


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


def is_cross_site(headers: Headers) -> bool:
    """Return True for Basic credentials that a browser may have added to a request of a page of another origin.

    Browsers add them without the page's knowledge of the token, also to images, forms and WebSockets. The scheme of the
    origin is not compared, because a front end may end TLS.
    """
    authorization = headers.single_value(b"authorization") or b""
    if authorization[:6].lower() != b"basic ":
        return False
    if any(site not in _OWN_SITES for site in headers.values(b"sec-fetch-site")):
        return True
    return any(origin.partition(b"://")[2] != headers.single_value(b"host") for origin in headers.values(b"origin"))


def rewrite_request_headers(headers: Headers, address: Address, via: bytes) -> Headers:
    """Return `headers` with the target's Host in place of the proxy's, and with `via` as another Via."""
    end_to_end = (header for header in headers if header[0].lower() != b"host")
    return Headers([(b"Host", host_header(address)), *end_to_end, (b"Via", via)])


@lru_cache(maxsize=1024)
def via(key: ObjectKey, secret: bytes) -> bytes:
    """Return the Via of requests for the Connector `key`, in lower case (RFC 9110 section 7.6.3).

    Only the holder of `secret` recognizes it, and targets cannot learn the Connector's name from it.
    """
    return f"1.1 proxy-{blake2b(str(key).encode(), key=secret, digest_size=8).hexdigest()}".encode()


def host_header(address: Address) -> bytes:
    """Return the Host header for `address`, without the default port of https (RFC 9110 section 7.2)."""
    authority = address.authority
    return (authority.removesuffix(":443") if address.port == 443 else authority).encode("ascii")


def rewrite_response_headers(
    headers: Headers, *, is_redirect: bool, request_target: bytes, address: Address, path_prefix: bytes
) -> Headers | None:
    """Return the target's headers for a client of direct access, or None for a redirect that leaves `address`.

    A client follows a redirect with its token. `path_prefix` is the prefix of the client's paths, empty by alias. All
    Connectors share the host of the path form, so its clients get no cookies. By alias, a cookie must not be for other
    hosts, too.
    """
    if not headers.values(b"location") and not headers.values(b"set-cookie"):
        return headers
    rewritten = []
    for name, value in headers:
        lower, client_value = name.lower(), value
        if lower == b"set-cookie" and (path_prefix or _COOKIE_DOMAIN.search(value)):
            continue
        if lower == b"location" and value:
            location = _rewrite_location(value, request_target, address, path_prefix)
            if location is None and is_redirect:
                return None
            client_value = location or value
        rewritten.append((name, client_value))
    return Headers(rewritten)


def _rewrite_location(location: bytes, request_target: bytes, address: Address, path_prefix: bytes) -> bytes | None:
    """Return a reference to `address` in the client's form, or None for another reference (RFC 3986 section 5)."""
    if _NOT_IN_URL.search(location) is not None:
        return None
    try:
        base = f"https://{address.authority}{request_target.decode('ascii')}"
        url = urlsplit(urljoin(base, location.decode("ascii")))
    except ValueError:
        return None
    path = url.path.encode("ascii") or b"/"
    if url.scheme != "https" or not host_matches(url.netloc.encode("ascii"), address):
        return None
    if not is_traversal_free(path) or not is_path_within(path, address):
        return None
    path = path.removeprefix(address.prefix.encode("ascii")) or b"/"
    if path.startswith(b"//"):
        # Without a prefix, clients would read the first segment as a host.
        return None
    return path_prefix + path + urlunsplit(("", "", "", url.query, url.fragment)).encode("ascii")
