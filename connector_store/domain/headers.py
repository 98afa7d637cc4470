"""What of a message's header goes on to the other side, and what refuses a request.

>>> to_target([(b"Host", b"t:6443"), (b"Authorization", b"Bearer x"), (b"Connection", b"X-A"), (b"X-A", b"1")])
[(b'Host', b't:6443')]

Names are compared without case; the order and the spelling of what stays are kept.
"""

from collections.abc import Iterable, Sequence
from typing import Final

Header = tuple[bytes, bytes]

UPGRADES: Final = frozenset({b"websocket", b"spdy/3.1"})
"""The protocols that kubectl upgrades to; any other offer is dropped, as RFC 9110 section 7.8 allows."""
BEARER_SUBPROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
"""A second bearer channel: k8s.io/apiserver, pkg/authentication/request/websocket."""

# RFC 9110 section 7.6.1, and RFC 2068 section 19.7.1. Transfer-Encoding belongs to who frames the body anew.
_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"})
_NEVER_OF_ONE_HOP: Final = frozenset({b"host", b"content-length"})
"""What a Connection header cannot take away: without them the message would mean something else."""
_IDENTITY: Final = (
    b"impersonate-",
    b"impersonate_",
    b"x-remote-",
    b"x_remote_",
    b"x-remote_",
    b"x_remote-",
)
"""Prefixes of headers that name another user; some servers in front of an API server read `_` as `-`."""


def identity_header(headers: Iterable[Header]) -> bytes | None:
    """The name of the first header that would act as somebody else."""
    for name, _ in headers:
        if name.lower().startswith(_IDENTITY):
            return name
    return None


def values(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """All values of a header; `name` in lower case."""
    return [value for each, value in headers if each.lower() == name]


def asked_upgrade(headers: Sequence[Header]) -> bytes | None:
    """The one protocol, in lower case, that the request asks to upgrade to and that we pass on."""
    if b"upgrade" not in _listed(headers, b"connection"):
        return None
    asked = _listed(headers, b"upgrade")
    return asked[0] if len(asked) == 1 and asked[0] in UPGRADES else None


def end_to_end(headers: Sequence[Header]) -> list[Header]:
    """Without what is for one hop only: Connection and what it names, Proxy-*, Transfer-Encoding, Upgrade."""
    dropped = _HOP_BY_HOP
    named = _listed(headers, b"connection")
    if named:
        dropped = dropped.union(named) - _NEVER_OF_ONE_HOP
    kept = []
    for header in headers:
        name = header[0].lower()
        if name not in dropped and not name.startswith(b"proxy-"):
            kept.append(header)
    return kept


def to_target(headers: Sequence[Header]) -> list[Header]:
    """What of a request's header the target sees: neither the caller's Authorization nor any other token of his."""
    kept = []
    for name, value in end_to_end(headers):
        lower = name.lower()
        if lower == b"authorization":
            continue
        passed = _without_bearer(value) if lower == b"sec-websocket-protocol" else value
        if passed is not None:
            kept.append((name, passed))
    return kept


def _without_bearer(value: bytes) -> bytes | None:
    if BEARER_SUBPROTOCOL not in value.lower():
        return value
    kept = [each for each in _split(value) if not each.lower().startswith(BEARER_SUBPROTOCOL)]
    return b", ".join(kept) or None


def _listed(headers: Iterable[Header], name: bytes) -> list[bytes]:
    return [each.lower() for value in values(headers, name) for each in _split(value)]


def _split(value: bytes) -> list[bytes]:
    return [stripped for each in value.split(b",") if (stripped := each.strip(b" \t"))]
