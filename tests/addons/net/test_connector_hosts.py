from addons.net.connector_hosts import ConnectorHosts
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from connector_store.store import Store
from tests.fakes.manifests import connector


def test_hosts_follow_the_connectors() -> None:
    store = Store()
    hosts = ConnectorHosts(store)
    assert "a.example" not in hosts
    one = parse_connector(connector("one", "https://A.example:6443/x"))
    rejected = parse_connector(connector("two", "http://b.example"))
    store.replace("test", [one, rejected])
    assert "a.example" in hosts
    assert "b.example" not in hosts
    assert isinstance(one, Connector)
    store.remove("test", Connector, one.key)
    assert "a.example" not in hosts
