"""Connector that a CONNECT or a request is for, with the token of the caller."""

from typing import NamedTuple

from addons.http1.messages import RequestHead
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.authorization_header import parse_bearer, parse_proxy_authorization


class ConnectorRequest(NamedTuple):
    """Connector that a CONNECT or a request is for, and the caller's token.

    `key` is None if the credentials of a CONNECT are unreadable. `authority` is the authority of the target in the
    tunnel. It is None for direct access. `token` is a ParseError if there is no readable token. It is None for a
    CONNECT if each request in the tunnel brings its own token.
    """

    key: ObjectKey | None
    authority: str | None
    token: str | ParseError | None

    def __repr__(self) -> str:
        return f"ConnectorRequest({self.key}, {self.authority})"


def parse_connect(head: RequestHead) -> ConnectorRequest:
    """Parse the head of a CONNECT."""
    authority = head.target.decode("ascii")
    try:
        credentials = parse_proxy_authorization(head.headers.single_value(b"proxy-authorization"))
    except ParseError as error:
        return ConnectorRequest(None, authority, error)
    return ConnectorRequest(credentials.key, authority, credentials.token)


def parse_bearer_token(head: RequestHead) -> str | ParseError:
    """Parse the bearer token of a request. Return the ParseError if there is no readable token."""
    try:
        return parse_bearer(head.headers.single_value(b"authorization"))
    except ParseError as error:
        return error
