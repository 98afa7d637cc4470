"""Connector that a request is for, and the grant of an open tunnel."""

from dataclasses import dataclass, field
from typing import NamedTuple

from addons.http1.messages import RequestHead
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.callers.authorization_header import parse_bearer


class ConnectorRequest(NamedTuple):
    """Connector that a request is for, and the caller's token, or a ParseError if there is no readable token.

    `authority` is the authority of the target in the tunnel. It is None for direct access.
    """

    key: ObjectKey
    authority: str | None
    token: str | ParseError

    def __repr__(self) -> str:
        return f"ConnectorRequest({self.key}, {self.authority})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelGrant:
    """Connector and authority that a tunnel is open for. `host` is the name in the certificate for the client.

    `token` is None if each request in the tunnel brings its own token. Then `identity` is None, too.
    """

    key: ObjectKey
    authority: str
    host: str
    token: str | None = field(repr=False)
    identity: Identity | None = None


def parse_bearer_token(head: RequestHead) -> str | ParseError:
    """Parse the bearer token of a request. Return the ParseError if there is no readable token."""
    try:
        return parse_bearer(head.headers.single_value(b"authorization"))
    except ParseError as error:
        return error
