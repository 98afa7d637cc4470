"""Hosts of all Connectors. Certificates for these names are not rate-limited."""

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Connector
from connector_store.store import Store


class ConnectorHosts:
    """Set of the hosts of all Connectors, for `host in hosts`. The first lookup after a change builds it again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hosts: frozenset[str] | None = None
        store.subscribe(self._on_connectors_changed)

    def __contains__(self, host: str) -> bool:
        if self._hosts is None:
            connectors = self._store.connectors()
            self._hosts = frozenset(
                connector.address.host for connector in connectors if isinstance(connector, Connector)
            )
        return host in self._hosts

    def _on_connectors_changed(self, _: frozenset[ObjectKey]) -> None:
        self._hosts = None
