"""What a CONNECT was granted, and what a request asks for."""

from dataclasses import dataclass, field
from typing import NamedTuple

from addons.http1.messages import RequestHead
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.callers.authorization_header import parse_bearer


class ConnectorRequest(NamedTuple):
    """What a request asks for, and with which token; a ParseError where it has no readable one.

    `authority` is the target's as the client knows it; None where it speaks to the proxy as if that were the target.
    """

    key: ObjectKey
    authority: str | None
    token: str | ParseError

    def __repr__(self) -> str:
        return f"Asked({self.key}, {self.authority})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelGrant:
    """For which Connector and authority a tunnel is open; `host` is that of a certificate for it.

    `token` is None where it comes inside, with each request; the caller is known only then.
    """

    key: ObjectKey
    authority: str
    host: str
    token: str | None = field(repr=False)
    identity: Identity | None = None


def parse_bearer_token(head: RequestHead) -> str | ParseError:
    """The token of a request."""
    try:
        return parse_bearer(head.headers.single_value(b"authorization"))
    except ParseError as error:
        return error
