import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.own_names import OwnNames, parse_host_names

NAMES = OwnNames(hosts=("localhost",), cluster_domain="cluster.local")


@pytest.mark.parametrize(
    ("host", "key"),
    [
        pytest.param("c-k8s.team-a", ObjectKey("team-a", "k8s"), id="name and namespace"),
        pytest.param("c-k8s.team-a.svc", ObjectKey("team-a", "k8s"), id="with svc"),
        pytest.param("c-k8s.team-a.svc.cluster.local", ObjectKey("team-a", "k8s"), id="with the cluster's domain"),
        pytest.param("c-c-a.svc", ObjectKey("svc", "c-a"), id="a namespace named svc"),
        pytest.param("c-k8s", None, id="no namespace"),
        pytest.param("k8s.team-a.svc", None, id="a Service without the prefix"),
        pytest.param("c-.team-a.svc", None, id="no name"),
        pytest.param("c--a.team-a.svc", None, id="an invalid name"),
        pytest.param("c-k8s.team-a.svc.other.domain", None, id="another cluster"),
        pytest.param("c-k8s.te_am", None, id="an invalid namespace"),
        pytest.param("localhost", None, id="the proxy itself"),
    ],
)
def test_an_alias_names_its_connector(host: str, key: ObjectKey | None) -> None:
    assert NAMES.connector_by_alias(host) == key


def test_host_names_and_ip_addresses_are_parsed() -> None:
    assert parse_host_names("") == ()
    assert parse_host_names("A.example, 10.0.0.1,fd00:0::1,a.example") == ("a.example", "10.0.0.1", "fd00::1")


@pytest.mark.parametrize("text", ["a.example:443", "https://a.example", "*.a.example", "a b", "x" * 300])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ParseError, match="is not a host name or an IP address"):
        parse_host_names(text)
