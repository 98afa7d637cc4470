"""The hosts of all Connectors: names that a certificate may be asked for without limit."""

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Connector
from connector_store.store import Store


class ConnectorHosts:
    """`host in hosts`; worked out anew when it is asked after a change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hosts: frozenset[str] | None = None
        store.subscribe(self._on_connectors_changed)

    def __contains__(self, host: str) -> bool:
        if self._hosts is None:
            connectors = self._store.connectors()
            self._hosts = frozenset(each.address.host for each in connectors if isinstance(each, Connector))
        return host in self._hosts

    def _on_connectors_changed(self, _: frozenset[ObjectKey]) -> None:
        self._hosts = None
