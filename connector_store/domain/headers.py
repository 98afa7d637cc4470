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


class Fields(tuple[Header, ...]):
    """The fields of one message as they came. What is asked of them is worked out once, and kept with them."""

    _values: dict[bytes, list[bytes]]

    def __new__(cls, headers: Iterable[Header] = ()) -> Self:
        self = super().__new__(cls, headers)
        found: dict[bytes, list[bytes]] = {}
        for name, value in self:
            lower = name.lower()
            if lower in found:
                found[lower].append(value)
            else:
                found[lower] = [value]
        self._values = found
        return self

    def values(self, name: bytes) -> Sequence[bytes]:
        """All values of a header; `name` in lower case."""
        return self._values.get(name, ())

    def only(self, name: bytes) -> bytes | None:
        """The one value of a header; None if there is none, or more than one."""
        found = self._values.get(name)
        return found[0] if found is not None and len(found) == 1 else None

    def listed(self, name: bytes) -> list[bytes]:
        """The members of a header that is a list (RFC 9110 section 5.6.1), in lower case."""
        found = self._values.get(name)
        return [each.lower() for value in found for each in _split(value)] if found else []

    @cached_property
    def acts_as(self) -> bytes | None:
        """The name of the first header that would act as somebody else."""
        if not any(name.startswith(_IDENTITY) for name in self._values):
            return None
        return next(name for name, _ in self if name.lower().startswith(_IDENTITY))

    @cached_property
    def asked_upgrade(self) -> bytes | None:
        """The one protocol, in lower case, that the request asks to upgrade to and that we pass on."""
        if b"upgrade" not in self.listed(b"connection"):
            return None
        asked = self.listed(b"upgrade")
        return asked[0] if len(asked) == 1 and asked[0] in UPGRADES else None

    @property
    def end_to_end(self) -> tuple[Header, ...]:
        """Without what is for one hop only: Connection and what it names, Proxy-*, Transfer-Encoding, Upgrade."""
        dropped = _HOP_BY_HOP.union(self.listed(b"connection")) - _NEVER_OF_ONE_HOP
        gone = {name for name in self._values if name in dropped or name.startswith(b"proxy-")}
        return tuple(each for each in self if each[0].lower() not in gone) if gone else self

    @cached_property
    def to_target(self) -> tuple[Header, ...]:
        """What of a request's header the target sees: neither the caller's Authorization nor any other token of his."""
        kept = []
        for name, value in self.end_to_end:
            lower = name.lower()
            if lower == b"authorization":
                continue
            passed = _without_bearer(value) if lower == b"sec-websocket-protocol" else value
            if passed is not None:
                kept.append((name, passed))
        return tuple(kept)

    @cached_property
    def lines_to_target(self) -> bytes:
        """`to_target` as it is sent: every line with its CRLF."""
        return b"".join([b"%b: %b\r\n" % each for each in self.to_target])

    @cached_property
    def user_agent(self) -> str:
        """For the audit log; empty if it is not said."""
        found = self._values.get(b"user-agent")
        return found[0].decode("latin-1") if found else ""


def _without_bearer(value: bytes) -> bytes | None:
    if BEARER_SUBPROTOCOL not in value.lower():
        return value
    kept = [each for each in _split(value) if not each.lower().startswith(BEARER_SUBPROTOCOL)]
    return b", ".join(kept) or None


def _split(value: bytes) -> list[bytes]:
    return [stripped for each in value.split(b",") if (stripped := each.strip(b" \t"))]
