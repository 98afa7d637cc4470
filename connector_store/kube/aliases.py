"""Which Connectors' own Services are seen to lead to the proxy: all of them by a watch, or one by a look."""

import logging
from typing import Final

from connector_store.domain.names import ObjectKey
from connector_store.domain.proxy_service import SELECTOR, Service, connector_of, parse_service, service_name, will_do
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.reflector import WATCH_TIMEOUT, Reflector
from connector_store.kube.resources import SERVICES

logger = logging.getLogger(__name__)

MAX_ALIASES: Final = 50_000
"""Of those that are kept; the others' Connectors are reached by the proxy's own host."""


class Aliases:
    """The sink of `reflector`: the uid of the Connector for each Service that leads to `host`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._owners: dict[ObjectKey, str] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def reflector(self, client: KubeClient, *, watch_timeout: float = WATCH_TIMEOUT) -> Reflector[Service]:
        """Reads the Services with the controller's label, of the whole cluster."""
        return Reflector(client, SERVICES, parse_service, self, label_selector=SELECTOR, watch_timeout=watch_timeout)

    def seen(self, connector: ObjectKey, uid: str) -> bool:
        """True if that Connector's Service is ours, as far as the watch has told."""
        return bool(uid) and self._owners.get(connector) == uid

    def replace(self, objects: tuple[Service, ...]) -> None:
        self._owners = {}
        for each in objects:
            self.put(each)

    def put(self, obj: Service) -> None:
        connector = connector_of(obj.key)
        if not will_do(obj, connector, obj.owner_uid, self._host):
            self._owners.pop(connector, None)
        elif connector in self._owners or len(self._owners) < MAX_ALIASES:
            self._owners[connector] = obj.owner_uid

    def remove(self, obj: Service) -> None:
        self._owners.pop(connector_of(obj.key), None)


async def leads_to_proxy(client: KubeClient, connector: ObjectKey, uid: str, host: str) -> bool:
    """One look at that Connector's Service; False also where it cannot be looked at, which is logged.

    It needs the right to list Services of the namespace.
    """
    name = service_name(connector.name)
    if name is None:
        return False
    query = {"fieldSelector": f"metadata.name={name}", "labelSelector": SELECTOR}
    try:
        found = (await client.get(SERVICES.path(connector.namespace), query)).get("items") or []
    except ApiError as error:
        logger.warning("services %r in namespace %r cannot be looked at: %s", name, connector.namespace, error)
        return False
    return any(will_do(parse_service(each), connector, uid, host) for each in found)
