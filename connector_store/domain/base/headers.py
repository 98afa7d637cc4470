"""Header fields of a message: which ones the proxy forwards, and which ones make it refuse a request.

>>> headers = Headers([(b"Host", b"t:6443"), (b"Authorization", b"Bearer x"), (b"Connection", b"X-A"), (b"X-A", b"1")])
>>> headers.to_target
((b'Host', b't:6443'),)

Names are compared without case. Forwarded fields keep their order and spelling.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final, Self

Header = tuple[bytes, bytes]

UPGRADE_PROTOCOLS: Final = frozenset({b"websocket", b"spdy/3.1"})
"""Protocols that kubectl upgrades to. The proxy drops any other offer, as RFC 9110 section 7.8 allows."""
BEARER_SUBPROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
"""Prefix of a subprotocol that is a bearer token (k8s.io/apiserver, pkg/authentication/request/websocket)."""

_FRONT_END_HEADERS: Final = frozenset(
    {
        b"forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip",
        b"fastly-client-ip", b"x-rewrite-url", b"x-http-method", b"x-http-method-override", b"x-method-override",
        b"remote-user", b"remote-addr", b"x-webauth-user", b"x-user", b"x-groups",
    }
)  # fmt: skip
"""Headers in which a front end describes the client, the original request or its TLS connection.

Servers trust these headers from any sender. kube-apiserver reads the source address of its audit log from
X-Forwarded-For and X-Real-Ip.
"""
_FRONT_END_PREFIXES: Final = (
    b"x-forwarded-", b"x-original-", b"x-auth-request-", b"x-envoy-", b"x-ssl-", b"ssl-client-", b"x-client-cert",
)  # fmt: skip
_FORBIDDEN_TRAILERS: Final = frozenset(
    {
        b"host", b"content-length", b"content-encoding", b"content-type", b"content-range", b"trailer",
        b"authorization", b"set-cookie", b"cookie", b"www-authenticate", b"authentication-info",
        b"cache-control", b"expect", b"max-forwards", b"pragma", b"range", b"if-match", b"if-none-match",
        b"if-modified-since", b"if-unmodified-since", b"if-range",
        b"age", b"expires", b"date", b"location", b"retry-after", b"vary", b"warning",
    }
)  # fmt: skip
"""Fields for framing, routing, request control, authentication and content format (RFC 9110 section 6.5.1)."""

# RFC 9110 section 7.6.1, and RFC 2068 section 19.7.1. The proxy frames the body itself, so it drops Transfer-Encoding.
_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"})
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_REPLACED_HEADERS: Final = frozenset({b"authorization", b"audit-id"})
"""Headers that the proxy replaces with its own. The API server writes Audit-ID to its audit log."""
_ALWAYS_END_TO_END: Final = frozenset({b"host", b"content-length"})
"""Headers that a Connection header cannot remove, because the message would have another meaning without them."""
_IMPERSONATION_PREFIXES: Final = (
    b"impersonate-",
    b"impersonate_",
    b"x-remote-",
    b"x_remote_",
    b"x-remote_",
    b"x_remote-",
)
"""Prefixes of headers that name another user. Some servers in front of an API server read `_` as `-`."""


class Headers(tuple[Header, ...]):
    """The header fields of one message, unchanged. Derived values are computed once and cached."""

    connection_options: frozenset[bytes]
    """Options of the Connection header (RFC 9110 section 7.6.1), in lower case."""
    upgrade_protocol: bytes | None
    """Protocol to upgrade to, in lower case. None unless the request offers exactly one of `UPGRADE_PROTOCOLS`."""
    _values: dict[bytes, list[bytes]]

    def __new__(cls, headers: Iterable[Header] = ()) -> Self:
        self = super().__new__(cls, headers)
        values: dict[bytes, list[bytes]] = {}
        for name, value in self:
            lower = name.lower()
            if lower in values:
                values[lower].append(value)
            else:
                values[lower] = [value]
        self._values = values
        self.connection_options = (
            frozenset(self.list_members(b"connection")) if b"connection" in values else _NO_OPTIONS
        )
        self.upgrade_protocol = self._find_upgrade_protocol() if b"upgrade" in self.connection_options else None
        return self

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return all values of a header. `name` is in lower case."""
        return self._values.get(name, ())

    def single_value(self, name: bytes) -> bytes | None:
        """Return the value of a header, or None if the header is absent or repeated."""
        values = self._values.get(name)
        return values[0] if values is not None and len(values) == 1 else None

    def list_members(self, name: bytes) -> list[bytes]:
        """Return the members of a list header (RFC 9110 section 5.6.1), in lower case."""
        values = self._values.get(name)
        return [member.lower() for value in values for member in _split_list(value)] if values else []

    @cached_property
    def impersonation_header(self) -> bytes | None:
        """Name of the first header that names another user, or None."""
        for lower in self._values:
            if lower.startswith(_IMPERSONATION_PREFIXES):
                return next(name for name, _ in self if name.lower() == lower)
        return None

    def _find_upgrade_protocol(self) -> bytes | None:
        protocols = self.list_members(b"upgrade")
        return protocols[0] if len(protocols) == 1 and protocols[0] in UPGRADE_PROTOCOLS else None

    @property
    def end_to_end(self) -> tuple[Header, ...]:
        """Fields without the hop-by-hop ones: Connection and its options, Proxy-*, Transfer-Encoding and Upgrade."""
        hop_by_hop = (
            (_HOP_BY_HOP | self.connection_options) - _ALWAYS_END_TO_END if self.connection_options else _HOP_BY_HOP
        )
        removed_names = {name for name in self._values if name in hop_by_hop or name.startswith(b"proxy-")}
        return tuple(field for field in self if field[0].lower() not in removed_names) if removed_names else self

    @property
    def allowed_trailers(self) -> "Headers":
        """Fields of a trailer section that may be sent as trailers."""
        removed_names = {name for name in self._values if name in _FORBIDDEN_TRAILERS}
        trailers = [field for field in self.end_to_end if field[0].lower() not in removed_names]
        return self if len(trailers) == len(self) else Headers(trailers)

    def without(self, *names: bytes) -> "Headers":
        """Return the fields except `names`, which are in lower case."""
        return Headers(field for field in self if field[0].lower() not in names)

    @cached_property
    def to_target(self) -> tuple[Header, ...]:
        """Request headers for the target, without the caller's token, the client's Audit-ID and front-end headers."""
        headers = []
        for name, value in self.end_to_end:
            lower = name.lower()
            if lower in _REPLACED_HEADERS or _is_front_end_header(lower):
                continue
            target_value = _remove_bearer(value) if lower == b"sec-websocket-protocol" else value
            if target_value is not None:
                headers.append((name, target_value))
        return tuple(headers)

    @cached_property
    def lines_to_target(self) -> bytes:
        """`to_target` as lines that end with CRLF."""
        return b"".join([b"%b: %b\r\n" % field for field in self.to_target])

    @cached_property
    def user_agent(self) -> str:
        """User-Agent for the audit log, or an empty string."""
        values = self._values.get(b"user-agent")
        return values[0].decode("latin-1") if values else ""


def _is_front_end_header(lower: bytes) -> bool:
    # Servers in front of an API server may read `_` as `-`.
    name = lower.replace(b"_", b"-") if b"_" in lower else lower
    return name in _FRONT_END_HEADERS or name.startswith(_FRONT_END_PREFIXES)


def _remove_bearer(value: bytes) -> bytes | None:
    if BEARER_SUBPROTOCOL not in value.lower():
        return value
    # Search the whole member: the API server strips every Unicode space in front of the prefix.
    protocols = [protocol for protocol in _split_list(value) if BEARER_SUBPROTOCOL not in protocol.lower()]
    return b", ".join(protocols) or None


def _split_list(value: bytes) -> list[bytes]:
    return [stripped for member in value.split(b",") if (stripped := member.strip(b" \t"))]
