"""The hosts of all Connectors: names that a certificate may be asked for without limit."""

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Connector
from connector_store.store import Store


class Hosts:
    """`host in hosts`; worked out anew when it is asked after a change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: frozenset[str] | None = None
        store.subscribe(self._changed)

    def __contains__(self, host: str) -> bool:
        if self._found is None:
            found = self._store.connectors()
            self._found = frozenset(each.address.host for each in found if isinstance(each, Connector))
        return host in self._found

    def _changed(self, _: frozenset[ObjectKey]) -> None:
        self._found = None
