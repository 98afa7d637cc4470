"""Gives each Connector its Service and takes it away again: the writes for what `services` decides."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from connector_controller.observed import Registry
from connector_controller.services import (
    NAME_NOT_ALLOWED,
    NON_PROXY,
    READY,
    conflict,
    is_ours,
    not_found,
    proxy_missing,
    repair,
    wanted,
)
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import (
    Service,
    alias_service_name,
    connector_of_alias,
    is_alias_service,
    parse_service,
)
from connector_store.domain.status.conditions import Assessment
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import SERVICES

_REFUSED: Final = frozenset({400, 403, 422})
"""Quotas, admission, a namespace that ends: told in the condition, and tried again later."""


class ProxyServices:
    """`on_change` gets the Connector whose Service changed."""

    def __init__(self, client: KubeClient, settings: Settings, on_change: Callable[[ObjectKey], None]) -> None:
        self._on_change = on_change
        self._registries: dict[str | None, Registry[ObjectKey, Service]] = {}
        self.proxy_is_there = True
        self._client = client
        self._settings = settings

    def registry_of(self, namespace: str | None) -> Registry[ObjectKey, Service]:
        """What holds the Services with our label of a namespace, None: of all; filled by a watch."""
        if namespace not in self._registries:
            self._registries[namespace] = Registry(
                lambda service: service.key, lambda key: self._on_change(connector_of_alias(key))
            )
        return self._registries[namespace]

    def _held(self, key: ObjectKey) -> Service | None:
        registry = self._registries.get(key.namespace) or self._registries.get(None)
        return registry.get(key) if registry is not None else None

    async def ensure(self, connector: ObjectKey, uid: str) -> Assessment:
        """The Connector's Service as it should be, and what there is to say about it."""
        proxy, host = self._settings.proxy_service, self._settings.proxy_host
        if proxy is None or host is None:
            await self.remove(connector)
            return NON_PROXY
        name = alias_service_name(connector.name)
        if name is None:
            return NAME_NOT_ALLOWED
        try:
            finding = await self._ensure(ObjectKey(connector.namespace, name), connector, uid, host)
        except ApiError as error:
            if error.status not in _REFUSED:
                raise
            return not_found(name, error.message)
        return finding if finding.holds is not True or self.proxy_is_there else proxy_missing(proxy)

    async def remove(self, connector: ObjectKey) -> None:
        """Delete the Service of a Connector that is gone or no longer ours."""
        name = alias_service_name(connector.name)
        service = self._held(ObjectKey(connector.namespace, name)) if name else None
        if service is None or service.owner_name != connector.name:
            return
        try:
            await self._client.delete(SERVICES.path(*service.key), uid=service.uid)
        except ApiError as error:
            # Garbage collection was faster, or it is another one by now, which a watch will show.
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def _ensure(self, key: ObjectKey, connector: ObjectKey, uid: str, host: str) -> Assessment:
        held = self._held(key)
        body = wanted(connector, uid, host)
        if held is None:
            try:
                # Looked at first: a Service of somebody else's has not our label, and stays there for long.
                held = parse_service(await self._client.get(SERVICES.path(*key)))
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                await self._client.create(SERVICES.path(key.namespace), body)
                return READY
        if not is_ours(held, connector):
            return conflict(key.name)
        if not is_alias_service(held, connector, uid, host):
            await self._client.patch(SERVICES.path(*key), repair(held, body))
        return READY
