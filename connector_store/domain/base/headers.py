"""What of a message's header goes on to the other side, and what refuses a request.

>>> fields = Fields([(b"Host", b"t:6443"), (b"Authorization", b"Bearer x"), (b"Connection", b"X-A"), (b"X-A", b"1")])
>>> fields.to_target
((b'Host', b't:6443'),)

Names are compared without case; the order and the spelling of what stays are kept.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final, Self

Header = tuple[bytes, bytes]

UPGRADE_PROTOCOLS: Final = frozenset({b"websocket", b"spdy/3.1"})
"""The protocols that kubectl upgrades to; any other offer is dropped, as RFC 9110 section 7.8 allows."""
BEARER_SUBPROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
"""A second bearer channel: k8s.io/apiserver, pkg/authentication/request/websocket."""

_FRONT_END_HEADERS: Final = frozenset(
    {
        b"forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip",
        b"fastly-client-ip", b"x-rewrite-url", b"x-http-method", b"x-http-method-override", b"x-method-override",
        b"remote-user", b"remote-addr", b"x-webauth-user", b"x-user", b"x-groups",
    }
)  # fmt: skip
"""What a front end says of the caller, of the request that it got or of its TLS: servers believe it of whoever sends
it. kube-apiserver takes the source address of its audit log from X-Forwarded-For and X-Real-Ip."""
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
"""RFC 9110 section 6.5.1: framing, routing, controls, authentication, and what says how the content is to be read."""

# RFC 9110 section 7.6.1, and RFC 2068 section 19.7.1. Transfer-Encoding belongs to who frames the body anew.
_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"})
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_REPLACED_HEADERS: Final = frozenset({b"authorization", b"audit-id"})
"""What the target gets of ours instead. By Audit-ID the API server names a request in its audit log."""
_ALWAYS_END_TO_END: Final = frozenset({b"host", b"content-length"})
"""What a Connection header cannot take away: without them the message would mean something else."""
_IMPERSONATION_PREFIXES: Final = (
    b"impersonate-",
    b"impersonate_",
    b"x-remote-",
    b"x_remote_",
    b"x-remote_",
    b"x_remote-",
)
"""Prefixes of headers that name another user; some servers in front of an API server read `_` as `-`."""


class Headers(tuple[Header, ...]):
    """The fields of one message as they came. What is asked of them is worked out once, and kept with them."""

    connection_options: frozenset[bytes]
    """The options of the Connection header (RFC 9110 section 7.6.1), in lower case."""
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
        return self

    def values(self, name: bytes) -> Sequence[bytes]:
        """All values of a header; `name` in lower case."""
        return self._values.get(name, ())

    def single_value(self, name: bytes) -> bytes | None:
        """The one value of a header; None if there is none, or more than one."""
        values = self._values.get(name)
        return values[0] if values is not None and len(values) == 1 else None

    def list_members(self, name: bytes) -> list[bytes]:
        """The members of a header that is a list (RFC 9110 section 5.6.1), in lower case."""
        values = self._values.get(name)
        return [each.lower() for value in values for each in _split_list(value)] if values else []

    @cached_property
    def impersonation_header(self) -> bytes | None:
        """The name of the first header that would act as somebody else."""
        for lower in self._values:
            if lower.startswith(_IMPERSONATION_PREFIXES):
                return next(name for name, _ in self if name.lower() == lower)
        return None

    @property
    def upgrade_protocol(self) -> bytes | None:
        """The one protocol, in lower case, that the request asks to upgrade to and that we pass on."""
        if b"upgrade" not in self.connection_options:
            return None
        protocols = self.list_members(b"upgrade")
        return protocols[0] if len(protocols) == 1 and protocols[0] in UPGRADE_PROTOCOLS else None

    @property
    def end_to_end(self) -> tuple[Header, ...]:
        """Without what is for one hop only: Connection and what it names, Proxy-*, Transfer-Encoding, Upgrade."""
        hop_by_hop = (
            (_HOP_BY_HOP | self.connection_options) - _ALWAYS_END_TO_END if self.connection_options else _HOP_BY_HOP
        )
        removed_names = {name for name in self._values if name in hop_by_hop or name.startswith(b"proxy-")}
        return tuple(each for each in self if each[0].lower() not in removed_names) if removed_names else self

    @property
    def allowed_trailers(self) -> "Headers":
        """Of a trailer section, what may be one."""
        removed_names = {name for name in self._values if name in _FORBIDDEN_TRAILERS}
        trailers = [each for each in self.end_to_end if each[0].lower() not in removed_names]
        return self if len(trailers) == len(self) else Headers(trailers)

    def without(self, *names: bytes) -> "Headers":
        """The other fields; `names` in lower case."""
        return Headers(each for each in self if each[0].lower() not in names)

    @cached_property
    def to_target(self) -> tuple[Header, ...]:
        """What of a request's header the target sees: no token of the caller's, no name that they give the request,
        and nothing that front ends say."""
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
        """`to_target` as it is sent: every line with its CRLF."""
        return b"".join([b"%b: %b\r\n" % each for each in self.to_target])

    @cached_property
    def user_agent(self) -> str:
        """For the audit log; empty if it is not said."""
        values = self._values.get(b"user-agent")
        return values[0].decode("latin-1") if values else ""


def _is_front_end_header(lower: bytes) -> bool:
    # Servers in front of an API server may read `_` as `-`.
    name = lower.replace(b"_", b"-") if b"_" in lower else lower
    return name in _FRONT_END_HEADERS or name.startswith(_FRONT_END_PREFIXES)


def _remove_bearer(value: bytes) -> bytes | None:
    if BEARER_SUBPROTOCOL not in value.lower():
        return value
    # Wherever it stands: the API server takes away all that Unicode calls a space in front of it.
    protocols = [each for each in _split_list(value) if BEARER_SUBPROTOCOL not in each.lower()]
    return b", ".join(protocols) or None


def _split_list(value: bytes) -> list[bytes]:
    return [stripped for each in value.split(b",") if (stripped := each.strip(b" \t"))]
