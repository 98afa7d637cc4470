"""Routes from a request to its Connector: by tunnel, by path and by host."""

from dataclasses import replace

import pytest

from addons.access.connector_request import ConnectorRequest
from addons.http1.messages import RequestHead
from addons.relay.routes import DirectRoute, RoutedRequest, TunnelRoute
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.denial import Deny
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.objects.models import Address, Target

KEY = ObjectKey("team-a", "k8s")
NAMES = OwnNames(hosts=("localhost",), cluster_domain="cluster.local")
ALIAS = "c-k8s.team-a.svc"


def head(target: str, host: str = "localhost", token: str = "t") -> RequestHead:
    fields = Headers([(b"Host", host.encode()), (b"Authorization", b"Bearer " + token.encode())])
    return RequestHead(b"GET", target.encode(), 1, fields, 0)


def create_target(address: Address, key: ObjectKey = KEY) -> Target:
    return Target(key=key, uid="", address=address, credential=None, secret_name=None, ca=None)


def test_requests_in_a_tunnel_use_the_token_of_the_connect() -> None:
    route = TunnelRoute(ConnectorRequest(KEY, "h:1", "of CONNECT"), None)
    assert route.connector_request == ConnectorRequest(KEY, "h:1", "of CONNECT")
    assert route.resolve(head("/api")) == RoutedRequest(route.connector_request, head("/api"))


def test_without_a_token_in_the_connect_each_request_has_its_own() -> None:
    route = TunnelRoute(ConnectorRequest(KEY, "h:1", None), None)
    assert route.connector_request is None
    routed = route.resolve(head("/api", token="own"))
    assert isinstance(routed, RoutedRequest)
    assert routed.connector_request.token == "own"
    assert route.rewrite_head(routed.head, create_target(Address(host="h", port=1))) is routed.head


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
    route = DirectRoute(NAMES, server_name, b"secret")
    routed = route.resolve(head(target, host))
    assert route.is_for_connector(head(target, host))
    assert isinstance(routed, RoutedRequest)
    assert (routed.connector_request, routed.head.target) == (ConnectorRequest(KEY, None, "t"), rest.encode())


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
def test_a_request_that_names_no_connector_or_two_is_refused(
    server_name: str | None, target: str, host: str, status: int
) -> None:
    refusal = DirectRoute(NAMES, server_name, b"secret").resolve(head(target, host))
    assert isinstance(refusal, Deny)
    assert refusal.status == status


@pytest.mark.parametrize(
    ("host", "targets", "results"),
    [
        pytest.param(
            "localhost",
            ["/connectors/team-a/k8s/a", "/connectors/team-a/other/b", "/connectors/team-a/k8s/c?d=e"],
            [("team-a/k8s", b"/a"), ("team-a/other", b"/b"), ("team-a/k8s", b"/c?d=e")],
            id="another Connector by path",
        ),
        pytest.param(
            "localhost", ["/connectors/team-a/k8s/a", "/api"], [("team-a/k8s", b"/a"), 404], id="no Connector"
        ),
        pytest.param(
            ALIAS, ["/a", "/kubeconfig", "/b"], [("team-a/k8s", b"/a"), 421, ("team-a/k8s", b"/b")], id="a page"
        ),
        pytest.param(ALIAS, ["/a", "/connectors/team-a"], [("team-a/k8s", b"/a"), 404], id="half a path form"),
        pytest.param(
            ALIAS,
            ["/connectors/team-a/k8s/a", "/connectors/team-a/other/b"],
            [("team-a/k8s", b"/a"), 421],
            id="another Connector than that of the host",
        ),
    ],
)
def test_a_later_request_with_the_same_headers_is_checked(
    host: str, targets: list[str], results: list[tuple[str, bytes] | int]
) -> None:
    route, first = DirectRoute(NAMES, None, b"secret"), head("/", host)
    routed = [route.resolve(replace(first, target=target.encode())) for target in targets]
    assert results == [
        each.status if isinstance(each, Deny) else (str(each.connector_request.key), each.head.target)
        for each in routed
    ]


def test_other_headers_on_the_same_path_are_checked_again() -> None:
    route = DirectRoute(NAMES, None, b"secret")
    routed = [route.resolve(head("/connectors/team-a/k8s/api", token=token)) for token in ("a", "b")]
    assert [each.connector_request.token for each in routed if isinstance(each, RoutedRequest)] == ["a", "b"]


def test_the_path_prefix_of_the_address_is_added() -> None:
    route = DirectRoute(NAMES, None, b"secret")
    target = create_target(Address(host="h", port=6443, prefix="/kubernetes/global"))
    first = head("/api?a=b")
    for _ in range(2):
        rewritten = route.rewrite_head(first, target)
        assert (rewritten.target, rewritten.headers.values(b"host")) == (b"/kubernetes/global/api?a=b", [b"h:6443"])
    assert route.rewrite_head(first, create_target(Address(host="i", port=443))).headers.values(b"host") == [b"i"]


def test_a_request_that_comes_back_to_its_connector_is_refused() -> None:
    route, target = DirectRoute(NAMES, None, b"secret"), create_target(Address(host="h", port=1))
    sent = route.rewrite_head(head("/api"), target)
    returned = replace(sent, target=b"/connectors/team-a/k8s/api", headers=sent.headers.without(b"host"))
    refusal = route.resolve(returned)
    assert isinstance(refusal, Deny)
    assert (refusal.status, refusal.cause) == (508, "loop")
    assert isinstance(route.resolve(replace(returned, target=b"/connectors/team-a/other/api")), RoutedRequest)
    assert isinstance(DirectRoute(NAMES, None, b"of another installation").resolve(returned), RoutedRequest)


def test_the_rewritten_headers_of_one_connector_are_not_those_of_another() -> None:
    route, first, address = DirectRoute(NAMES, None, b"secret"), head("/api"), Address(host="h", port=1)
    targets = [create_target(address), create_target(address, ObjectKey("team-a", "other"))]
    assert len({route.rewrite_head(first, target).headers.single_value(b"via") for target in targets}) == 2
