"""Routes from a request to its Connector: the CONNECT tunnel decides, or each request does (direct access)."""

from typing import NamedTuple, Protocol

from addons.access.connector_request import ConnectorRequest, parse_bearer_token
from addons.http1.messages import RequestHead
from addons.relay.pages import is_page
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision import denial, direct_access
from connector_store.domain.decision.denial import Deny
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.objects.address_matching import host_of_header
from connector_store.domain.objects.models import Target


class RoutedRequest(NamedTuple):
    """Connector and token of a request, and its head without the parts that named the Connector."""

    connector_request: ConnectorRequest
    head: RequestHead
    path_prefix: bytes | None = None
    """Removed prefix of the path at direct access, empty by alias. None in a tunnel."""


class Route(Protocol):
    """Route of the requests on one client connection."""

    identity: Identity | None
    """Caller who opened the tunnel; None if each request has its own caller."""
    key: ObjectKey | None
    """The Connector that every request is for; None if each request names its own."""
    connector_request: ConnectorRequest | None
    """Connector and token of every request; None if `resolve` must determine them."""

    def resolve(self, head: RequestHead) -> RoutedRequest | Deny:
        """Return Connector and token of a request, or the reason to refuse it."""

    def rewrite_head(self, head: RequestHead, target: Target) -> RequestHead:
        """Return the head for `target`."""


class TunnelRoute:
    """Route of a CONNECT tunnel: all requests are for the Connector of the CONNECT."""

    def __init__(self, request: ConnectorRequest, identity: Identity | None) -> None:
        """`request` is the one that the CONNECT was authorized with, `identity` is its caller."""
        self.identity = identity
        self.key = request.key
        self.connector_request = request if request.token is not None else None
        self._request = request

    def resolve(self, head: RequestHead) -> RoutedRequest | Deny:
        return RoutedRequest(self.connector_request or self._request._replace(token=parse_bearer_token(head)), head)

    def rewrite_head(self, head: RequestHead, target: Target) -> RequestHead:
        """Return `head` unchanged, because the client addresses the target."""
        return head


class _DirectHeaders(NamedTuple):
    """Result of the checks of a header block, for requests with one Connector in their path."""

    received: Headers
    path_key: ObjectKey | None
    """Connector in the path."""
    is_misdirected: bool
    deny: Deny | None = None
    connector_request: ConnectorRequest | None = None
    """None if neither the path nor the host names a Connector."""
    to_target: Headers = Headers()
    """`received` without the cookies of the path form."""
    path_prefix: bytes = b""


class DirectRoute:
    """Route of direct access: each request names its Connector by path or by Host.

    `server_name` is the server name of TLS, None without TLS. If Host is an alias of a Connector, it must equal the
    server name, because the client verified the certificate for that name. `via_key` is a secret of all
    proxies that share a CA, from which the Via of each Connector follows.
    """

    def __init__(self, names: OwnNames, server_name: str | None, via_key: bytes) -> None:
        self.identity: Identity | None = None
        self.key: ObjectKey | None = None
        self.connector_request: ConnectorRequest | None = None
        self._names = names
        self._server_name = server_name
        self._via_key = via_key
        self._last: _DirectHeaders | None = None
        """Result for the last request. Most requests on a connection have the same header block, parsed once."""
        self._rewrite_cache: tuple[Headers, Target, Headers] | None = None

    def is_for_connector(self, head: RequestHead) -> bool:
        """Return True if the request is for a Connector, False if it is for the proxy itself."""
        return head.target.startswith(direct_access.PATH_PREFIX) or self._key_from_host(head) is not None

    def resolve(self, head: RequestHead) -> RoutedRequest | Deny:
        path_match, last = direct_access.parse_direct_path(head.target), self._last
        path_key, target = path_match if path_match is not None else (None, head.target)
        if last is None or last.received is not head.headers or last.path_key != path_key:
            last = self._last = self._check_headers(head, path_key)
        if last.is_misdirected:
            return denial.misdirected()
        if last.connector_request is None or (path_key is None and target.startswith(direct_access.PATH_PREFIX)):
            return denial.not_found()
        if path_key is None and is_page(target):
            # Pages of the proxy need a separate connection.
            return denial.misdirected()
        if last.deny is not None:
            return last.deny
        target_head = RequestHead(head.method, target, head.minor_version, last.to_target, head.body)
        return RoutedRequest(last.connector_request, target_head, last.path_prefix)

    def _check_headers(self, head: RequestHead, path_key: ObjectKey | None) -> _DirectHeaders:
        headers, host_key = head.headers, self._key_from_host(head)
        if self._is_misdirected(head, host_key) or (path_key is not None and host_key not in (None, path_key)):
            return _DirectHeaders(headers, path_key, is_misdirected=True)
        key, path_prefix, to_target = path_key or host_key, b"", headers
        if key is None:
            return _DirectHeaders(headers, path_key, is_misdirected=False)
        if path_key is not None:
            path_prefix = direct_access.PATH_PREFIX + str(path_key).encode("ascii")
            # Clients send the cookies of the path form to all Connectors.
            to_target = headers.without(b"cookie") if headers.values(b"cookie") else headers
        deny: Deny | None = None
        if direct_access.is_cross_site(headers):
            deny = denial.cross_site()
        elif headers.values(b"via") and direct_access.via(key, self._via_key) in headers.list_members(b"via"):
            deny = denial.loop(key)
        connector_request = ConnectorRequest(key, None, _parse_token(head, key))
        return _DirectHeaders(headers, path_key, False, deny, connector_request, to_target, path_prefix)

    def rewrite_head(self, head: RequestHead, target: Target) -> RequestHead:
        """Add the path prefix of the address and Via, and replace Host by that of the target."""
        cache = self._rewrite_cache
        if cache is None or cache[0] is not head.headers or cache[1] is not target:
            via = direct_access.via(target.key, self._via_key)
            headers = direct_access.rewrite_request_headers(head.headers, target.address, via)
            cache = self._rewrite_cache = (head.headers, target, headers)
        request_target = target.address.prefix.encode("ascii") + head.target
        return RequestHead(head.method, request_target, head.minor_version, cache[2], head.body)

    def _key_from_host(self, head: RequestHead) -> ObjectKey | None:
        host = self._host(head)
        return self._names.connector_by_alias(host) if host is not None else None

    def _host(self, head: RequestHead) -> str | None:
        return host_of_header(head.headers.single_value(b"host") or b"")

    def _is_misdirected(self, head: RequestHead, host_key: ObjectKey | None) -> bool:
        name = self._server_name
        if name is None:
            return False
        return (host_key is not None or self._names.connector_by_alias(name) is not None) and self._host(head) != name


def _parse_token(head: RequestHead, key: ObjectKey) -> str | ParseError:
    try:
        return direct_access.parse_request_token(head.headers, key)
    except ParseError as error:
        return error
