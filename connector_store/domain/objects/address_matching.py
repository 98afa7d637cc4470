"""Parser of Connector addresses, and comparison of requests with them.

>>> address = parse_address("https://Host.example:6443/kubernetes/global/")
>>> address
Address(host='host.example', port=6443, prefix='/kubernetes/global')
>>> authority_matches("host.example:6443", address), is_path_within(b"/kubernetes/global/api?x=y", address)
(True, True)
>>> is_path_within(b"/kubernetes/global/%2e%2e/other", address)
False
"""

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from connector_store.domain.base.errors import ParseError
from connector_store.domain.objects.models import Address

DEFAULT_PORT: Final = 443
_MAX_PORT = 65535
_MAX_AUTHORITY = 300
"""Maximum number of characters. RFC 1035 section 2.3.4 allows 255 for a name."""
_MAX_HOST = 253
_MAX_ADDRESS = 2048
_MAX_DECODING_ROUNDS = 4
"""Maximum rounds of percent-decoding. A path that still changes after them is not allowed."""

_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
# Resolvers read such names as IPv4 addresses, see https://url.spec.whatwg.org/#ends-in-a-number-checker.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@-]+")
_TARGET_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS = re.compile(r"[/\\]")
_PARAMETERS = re.compile(r"[;?#]")


def parse_address(text: str) -> Address:
    """Parse `https://HOST[:PORT][/PATH]`. The path of a ParseError is empty; the caller of this function adds it."""
    if len(text) > _MAX_ADDRESS:
        raise ParseError("", f"is longer than {_MAX_ADDRESS} characters")
    scheme, separator, remainder = text.partition("://")
    if not separator or scheme.lower() != "https":
        raise ParseError("", "is not an https URL; write https://HOST[:PORT][/PATH]")
    authority, slash, path = remainder.partition("/")
    for delimiter, name in (("@", "user information"), ("?", "a query"), ("#", "a fragment")):
        if delimiter in (authority if delimiter == "@" else remainder):
            raise ParseError("", f"has {name}; write https://HOST[:PORT][/PATH]")
    host, port = _split_authority(authority, DEFAULT_PORT)
    return Address(host=host, port=port, prefix=_parse_prefix(slash + path))


def host_of_authority(authority: str) -> str | None:
    """Return the normalised host of `host:port` (RFC 9110 section 9.3.6), or None if `authority` is invalid."""
    if len(authority) > _MAX_AUTHORITY or authority.endswith("]") or ":" not in authority:
        return None
    try:
        return _split_authority(authority, DEFAULT_PORT)[0]
    except ParseError:
        return None


def host_of_header(host: bytes) -> str | None:
    """Return the normalised host of a Host header without its port, or None if the header is invalid."""
    if len(host) > _MAX_AUTHORITY:
        return None
    try:
        return _split_authority(host.decode("latin-1"), DEFAULT_PORT)[0]
    except ParseError:
        return None


def authority_matches(authority: str, address: Address) -> bool:
    """Return True if the authority of a CONNECT (`host:port`, RFC 9110 section 9.3.6) is that of `address`."""
    return len(authority) <= _MAX_AUTHORITY and _authority_equals(authority, address, 0)


def host_matches(host: bytes, address: Address) -> bool:
    """Return True if a Host header (RFC 9110 section 7.2) is that of `address`. The default port is 443."""
    return len(host) <= _MAX_AUTHORITY and _authority_equals(host.decode("latin-1"), address, DEFAULT_PORT)


def is_path_within(raw_target: bytes, address: Address) -> bool:
    """Return True if every server reads a request target in origin form as below the address's prefix.

    Servers differ in what they decode, collapse and strip. A target within the prefix must therefore begin with the
    exact bytes of the prefix. In addition, no round of decoding may give a segment like `.` or `..`.
    """
    if not raw_target.startswith(b"/") or raw_target.translate(None, _TARGET_BYTES):
        return False
    prefix = address.prefix
    if not prefix:
        return True
    path = raw_target.partition(b"?")[0]
    start = prefix.encode("ascii")
    if path == start:
        return True
    if not path.startswith(start + b"/"):
        return False
    if b"/." not in path and b"%" not in path and b"\\" not in path:
        return True
    return _is_traversal_free(path)


def is_traversal_free(raw_target: bytes) -> bool:
    """Return True if a request target is a path without dot segments, in any round of decoding."""
    if not raw_target.startswith(b"/") or raw_target.translate(None, _TARGET_BYTES):
        return False
    path = raw_target.partition(b"?")[0]
    return (b"/." not in path and b"%" not in path and b"\\" not in path) or _is_traversal_free(path)


def _is_traversal_free(path: bytes) -> bool:
    if _BAD_ESCAPE.search(path) is not None:
        return False
    text = path.decode("ascii")
    for _ in range(_MAX_DECODING_ROUNDS):
        if "%" not in text:
            break
        # NFKC, because some servers fold compatibility forms such as U+FF0E and U+2025 into dots.
        text, previous = unicodedata.normalize("NFKC", unquote(text)), text
        if text == previous:
            break
    else:
        return False
    if "\ufffd" in text or _CONTROL.search(text) is not None:
        return False
    return not any(_is_dot_segment(_PARAMETERS.split(part, maxsplit=1)[0]) for part in _SEPARATORS.split(text))


def _is_dot_segment(segment: str) -> bool:
    return "." in segment and not segment.strip(". ")


@lru_cache(maxsize=1024)
def _authority_equals(authority: str, address: Address, default_port: int) -> bool:
    try:
        return _split_authority(authority, default_port) == (address.host, address.port)
    except ParseError:
        return False


@lru_cache(maxsize=1024)
def _split_authority(authority: str, default_port: int) -> tuple[str, int]:
    """Split `host[:port]`, and normalise the host: lower case, shortest IPv6 form, no brackets, no final dot."""
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        return _normalise_host(authority), _check_port(default_port)
    if re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is None:
        raise ParseError("", f"has no valid port; it is a number from 1 to {_MAX_PORT}")
    return _normalise_host(host), _check_port(int(port))


def _check_port(number: int) -> int:
    if not 0 < number <= _MAX_PORT:
        raise ParseError("", f"has no valid port; it is a number from 1 to {_MAX_PORT}")
    return number


def _normalise_host(text: str) -> str:
    host = text.lower()
    try:
        if host.startswith("[") and host.endswith("]"):
            # The slash makes a zone (RFC 6874) invalid, because a zone has no meaning on another machine.
            return ipaddress.IPv6Address(host[1:-1].replace("%", "/")).compressed
        if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None:
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ParseError("", "has no valid IP address as its host; write IPv6 in brackets") from None
    host = host.removesuffix(".")
    if not host:
        raise ParseError("", "has no host; write https://HOST[:PORT][/PATH]")
    if len(host) > _MAX_HOST or _LABELS.fullmatch(host) is None:
        raise ParseError("", "has no valid host name; write other alphabets in their xn-- form")
    return host


def _parse_prefix(path: str) -> str:
    stripped = path.rstrip("/")
    if stripped and any(_SEGMENT.fullmatch(segment) is None for segment in stripped[1:].split("/")):
        raise ParseError("", "has a path with empty segments or with characters that would need percent-encoding")
    if any(not segment.strip(".") for segment in stripped[1:].split("/") if segment):
        raise ParseError("", "has dot segments in its path; write the path that they lead to")
    return stripped
