"""Alias Services that lead to the proxy: those that a watch reports, or one that is read now."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.proxy_service import (
    ALIAS_SELECTOR,
    Service,
    alias_service_name,
    is_alias_service,
    parse_service,
)
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import SERVICES

logger = logging.getLogger(__name__)


class PathReader(Protocol):
    """Part of a client that reads one path."""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]: ...


class Aliases:
    """UID of the owning Connector for each reported Service that leads to `host`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._owners: dict[ObjectKey, str] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def has_alias(self, connector: ObjectKey, uid: str) -> bool:
        """Return True if the last reported Service of that Connector leads to the proxy."""
        return bool(uid) and self._owners.get(connector) == uid

    def update(self, connector: ObjectKey, service: Service | None) -> None:
        """Record the current Service of a Connector, or None if it does not exist."""
        if service is not None and is_alias_service(service, connector, service.owner_uid, self._host):
            self._owners[connector] = service.owner_uid
        else:
            self._owners.pop(connector, None)


async def leads_to_proxy(client: PathReader, connector: ObjectKey, uid: str, host: str) -> bool:
    """Read the Service of that Connector. Return True if it leads to the proxy at `host`.

    Return False if it cannot be read, and log why. This needs the right to list Services of the namespace.
    """
    name = alias_service_name(connector.name)
    if name is None:
        return False
    query = {"fieldSelector": f"metadata.name={name}", "labelSelector": ALIAS_SELECTOR}
    try:
        services = (await client.get(SERVICES.path(connector.namespace), query)).get("items") or []
    except ApiError as error:
        logger.warning("services %r in namespace %r cannot be read: %s", name, connector.namespace, error)
        return False
    return any(is_alias_service(parse_service(each), connector, uid, host) for each in services)
