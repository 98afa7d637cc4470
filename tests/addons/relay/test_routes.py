"""Which Connector a request is for: by its tunnel, by its path, by its host."""

import pytest

from addons.access.connector_request import ConnectorRequest, TunnelGrant
from addons.http1.messages import RequestHead
from addons.relay.routes import DirectRoute, RoutedRequest, TunnelRoute
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.denial import Deny
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.objects.models import Address

KEY = ObjectKey("team-a", "k8s")
NAMES = OwnNames(hosts=("localhost",), cluster_domain="cluster.local")
ALIAS = "c-k8s.team-a.svc"


def head(target: str, host: str = "localhost", token: str = "t") -> RequestHead:
    fields = Headers([(b"Host", host.encode()), (b"Authorization", b"Bearer " + token.encode())])
    return RequestHead(b"GET", target.encode(), 1, fields, 0)


def test_in_a_tunnel_the_token_of_the_connect_is_that_of_each_request() -> None:
    door = TunnelRoute(TunnelGrant(key=KEY, authority="h:1", host="h", token="of CONNECT"))
    assert door.connector_request == ConnectorRequest(KEY, "h:1", "of CONNECT")
    assert door.resolve(head("/api")) == RoutedRequest(door.connector_request, head("/api"))


def test_else_each_request_brings_its_own() -> None:
    door = TunnelRoute(TunnelGrant(key=KEY, authority="h:1", host="h", token=None))
    assert door.connector_request is None
    found = door.resolve(head("/api", token="own"))
    assert isinstance(found, RoutedRequest)
    assert found.connector_request.token == "own"
    assert door.rewrite_head(found.head, Address(host="h", port=1)) is found.head


@pytest.mark.parametrize(
    ("server_name", "target", "host", "rest"),
    [
        pytest.param(None, "/connectors/team-a/k8s/api", "localhost", "/api", id="by path, without TLS"),
        pytest.param("", "/connectors/team-a/k8s/api", "127.0.0.1", "/api", id="by path, without a server name"),
        pytest.param("front.example", "/connectors/team-a/k8s/api", "other.example", "/api", id="behind a front end"),
        pytest.param(ALIAS, "/api", ALIAS, "/api", id="by host"),
        pytest.param(ALIAS, "/api", f"{ALIAS}:443", "/api", id="by host, with a port"),
        pytest.param(None, "/api", "C-k8s.team-a", "/api", id="by host, without TLS"),
        pytest.param(ALIAS, "/connectors/team-a/k8s/api", ALIAS, "/api", id="by both, which agree"),
    ],
)
def test_a_request_names_its_connector(server_name: str | None, target: str, host: str, rest: str) -> None:
    door = DirectRoute(NAMES, server_name)
    found = door.resolve(head(target, host))
    assert door.is_for_connector(head(target, host))
    assert isinstance(found, RoutedRequest)
    assert (found.connector_request, found.head.target) == (ConnectorRequest(KEY, None, "t"), rest.encode())


@pytest.mark.parametrize(
    ("server_name", "target", "host", "status"),
    [
        pytest.param("", "/api", ALIAS, 421, id="a host without a server name"),
        pytest.param("localhost", "/api", ALIAS, 421, id="a host, and another server name"),
        pytest.param("c-other.team-a.svc", "/api", ALIAS, 421, id="a host, and the server name of another Connector"),
        pytest.param(ALIAS, "/connectors/team-a/k8s/api", "localhost", 421, id="a server name, and another host"),
        pytest.param(ALIAS, "/connectors/team-a/other/api", ALIAS, 421, id="a path, and another host"),
        pytest.param(None, "/connectors/team-a/other/api", ALIAS, 421, id="a path, and another host, without TLS"),
        pytest.param(ALIAS, "/kubeconfig", ALIAS, 421, id="a page of the proxy on a connection for a Connector"),
        pytest.param("localhost", "/api", "localhost", 404, id="no Connector"),
        pytest.param("localhost", "/connectors/team-a/k8s%2fapi", "localhost", 404, id="an escape in the path form"),
        pytest.param(ALIAS, "/connectors/team-a", ALIAS, 404, id="half a path form"),
    ],
)
def test_what_does_not_agree_or_names_none_is_refused(
    server_name: str | None, target: str, host: str, status: int
) -> None:
    found = DirectRoute(NAMES, server_name).resolve(head(target, host))
    assert isinstance(found, Deny)
    assert found.status == status


def test_the_path_of_the_address_is_put_before_that_of_the_request() -> None:
    door, address = DirectRoute(NAMES, None), Address(host="h", port=6443, prefix="/kubernetes/global")
    first = head("/api?a=b")
    for _ in range(2):
        found = door.rewrite_head(first, address)
        assert (found.target, found.headers.values(b"host")) == (b"/kubernetes/global/api?a=b", [b"h:6443"])
    assert door.rewrite_head(first, Address(host="i", port=443)).headers.values(b"host") == [b"i"]
