import pytest

from connector_store.domain.names import ObjectKey
from connector_store.domain.proxy_service import MANAGED_BY, MANAGER, SELECTOR, connector_of, service_name, service_url


@pytest.mark.parametrize(
    ("connector", "name"),
    [
        pytest.param("k8s", "c-k8s", id="a short one"),
        pytest.param("x" * 61, "c-" + "x" * 61, id="61 characters"),
        pytest.param("x" * 62, None, id="62 characters"),
        pytest.param("a.b", None, id="a dot"),
    ],
)
def test_names(connector, name) -> None:
    assert service_name(connector) == name


def test_the_connector_of_a_service() -> None:
    assert connector_of(ObjectKey("team-a", "c-k8s")) == ObjectKey("team-a", "k8s")


def test_a_connector_has_a_service_of_its_own() -> None:
    url = service_url(ObjectKey("team-a", "k8s"), "cluster.local")
    assert url == "http://c-k8s.team-a.svc.cluster.local"


def test_the_selector_finds_what_carries_the_label() -> None:
    assert SELECTOR == f"{MANAGED_BY}={MANAGER}" == "app.kubernetes.io/managed-by=connectors-controller"
