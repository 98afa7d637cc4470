"""How a request says which Connector it is for: by the tunnel that it is in, or by itself (the direct door)."""

from typing import NamedTuple, Protocol

from addons.access.grant import Asked, Grant, bearer
from addons.http1.messages import RequestHead
from addons.relay.pages import is_page
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision import denial, direct
from connector_store.domain.decision.denial import Deny
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.objects.matching import host_of_header
from connector_store.domain.objects.models import Address


class Request(NamedTuple):
    """What is asked for, and the head without what has named it."""

    asked: Asked
    head: RequestHead


class Door(Protocol):
    """Of one client connection."""

    identity: Identity | None
    """Of whoever opened it, where that is known."""
    key: ObjectKey | None
    """The Connector that it leads to, where that is one whatever is said."""
    asked: Asked | None
    """What every request asks for, where that was said once for all; else they are `read`."""

    def read(self, head: RequestHead) -> Request | Deny:
        """What a request is for."""

    def write(self, head: RequestHead, address: Address) -> RequestHead:
        """The head for the target at `address`."""


class Tunnel:
    """What a CONNECT was granted for."""

    def __init__(self, grant: Grant) -> None:
        self.identity = grant.identity
        self.key: ObjectKey | None = grant.key
        self.asked = Asked(grant.key, grant.authority, grant.token) if grant.token is not None else None
        self._grant = grant

    def read(self, head: RequestHead) -> Request | Deny:
        return Request(self.asked or Asked(self._grant.key, self._grant.authority, bearer(head)), head)

    def write(self, head: RequestHead, address: Address) -> RequestHead:
        """It is addressed to the target already."""
        return head


class Direct:
    """Requests that name their Connector each, by path or by Host; `server_name` is that of TLS, None without TLS.

    Where Host is a Connector's alias, the server name must be the same: who has checked a certificate has checked it
    for that name.
    """

    def __init__(self, names: OwnNames, server_name: str | None) -> None:
        self.identity: Identity | None = None
        self.key: ObjectKey | None = None
        self.asked: Asked | None = None
        self._names = names
        self._server_name = server_name
        self._last: tuple[Headers, Address, Headers] | None = None

    def leads_on(self, head: RequestHead) -> bool:
        """True for a request that is for a Connector, and not for the proxy itself."""
        return head.target.startswith(direct.PATH_PREFIX) or self._by_host(head) is not None

    def read(self, head: RequestHead) -> Request | Deny:
        by_host = self._by_host(head)
        named = direct.parse_direct_path(head.target)
        if self._misdirected(head, by_host) or (named is not None and by_host not in (None, named.key)):
            return denial.misdirected()
        if named is None and (by_host is None or head.target.startswith(direct.PATH_PREFIX)):
            return denial.not_found()
        if is_page(head.target):
            # Of the proxy itself: on a connection of their own.
            return denial.misdirected()
        key, target = named if named is not None else direct.DirectRequest(by_host or ObjectKey("", ""), head.target)
        asked = Asked(key, None, _token(head, key))
        return Request(asked, RequestHead(head.method, target, head.minor, head.headers, head.body))

    def write(self, head: RequestHead, address: Address) -> RequestHead:
        """With the path of the address before its own, and the target's Host."""
        if self._last is None or self._last[0] is not head.headers or self._last[1] != address:
            self._last = (head.headers, address, direct.with_target_host(head.headers, address))
        target = address.prefix.encode("ascii") + head.target
        return RequestHead(head.method, target, head.minor, self._last[2], head.body)

    def _by_host(self, head: RequestHead) -> ObjectKey | None:
        host = self._host(head)
        return self._names.connector_by_alias(host) if host is not None else None

    def _host(self, head: RequestHead) -> str | None:
        return host_of_header(head.headers.single_value(b"host") or b"")

    def _misdirected(self, head: RequestHead, by_host: ObjectKey | None) -> bool:
        name = self._server_name
        if name is None:
            return False
        return (by_host is not None or self._names.connector_by_alias(name) is not None) and self._host(head) != name


def _token(head: RequestHead, key: ObjectKey) -> str | ParseError:
    try:
        return direct.parse_request_token(head.headers, key)
    except ParseError as error:
        return error
