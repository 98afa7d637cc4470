"""Writer of the Connectors' alias Services. `services` decides what it writes."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from connector_controller.observed import ObjectCache
from connector_controller.services import (
    NAME_NOT_ALLOWED,
    NON_PROXY,
    READY,
    belongs_to,
    build_service,
    conflict,
    not_found,
    proxy_missing,
    repair_patch,
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
from connector_store.kube.errors import ApiError, suppress_status
from connector_store.kube.resources import SERVICES

_REFUSAL_STATUSES: Final = frozenset({400, 403, 422})
"""Refusals by quota, admission, or a namespace in deletion. The condition shows them. The write is retried later."""


class ProxyServices:
    """Alias Services of all Connectors. `on_change` gets the Connector whose Service changed."""

    def __init__(self, client: KubeClient, settings: Settings, on_change: Callable[[ObjectKey], None]) -> None:
        self._on_change = on_change
        self._caches: dict[str | None, ObjectCache[ObjectKey, Service]] = {}
        self.proxy_exists = True
        self._client = client
        self._settings = settings

    def cache_of(self, namespace: str | None) -> ObjectCache[ObjectKey, Service]:
        """Return the cache of a namespace's Services with our label, or of all (None). A watch fills it."""
        if namespace not in self._caches:
            self._caches[namespace] = ObjectCache(
                lambda service: service.key, lambda key: self._on_change(connector_of_alias(key))
            )
        return self._caches[namespace]

    def drop_cache(self, namespace: str | None) -> None:
        """Forget the Services of a namespace, or of all, because their watch has been stopped."""
        self._caches.pop(namespace, None)

    def _cached_service(self, key: ObjectKey) -> Service | None:
        cache = self._caches.get(key.namespace) or self._caches.get(None)
        return cache.get(key) if cache is not None else None

    async def ensure(self, connector: ObjectKey, uid: str) -> Assessment:
        """Create or repair the Connector's Service. Return the assessment of it."""
        proxy, host = self._settings.proxy_service, self._settings.proxy_host
        if proxy is None or host is None:
            await self.remove(connector)
            return NON_PROXY
        name = alias_service_name(connector.name)
        if name is None:
            return NAME_NOT_ALLOWED
        try:
            assessment = await self._ensure(ObjectKey(connector.namespace, name), connector, uid, host)
        except ApiError as error:
            if error.status not in _REFUSAL_STATUSES:
                raise
            return not_found(name, error.message)
        return assessment if assessment.holds is not True or self.proxy_exists else proxy_missing(proxy)

    async def remove(self, connector: ObjectKey) -> None:
        """Delete the Service of a Connector that was deleted or is not supported any more."""
        name = alias_service_name(connector.name)
        service = self._cached_service(ObjectKey(connector.namespace, name)) if name else None
        if service is None or service.owner_name != connector.name:
            return
        # The garbage collector may have deleted it. If it was replaced, a watch reports the new one.
        with suppress_status(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            await self._client.delete(SERVICES.path(*service.key), uid=service.uid)

    async def _ensure(self, key: ObjectKey, connector: ObjectKey, uid: str, host: str) -> Assessment:
        service = self._cached_service(key)
        body = build_service(connector, uid, host)
        if service is None:
            # Read before the write: another owner's Service lacks the label, and usually exists for long.
            raw = await self._client.find(SERVICES.path(*key))
            if raw is None:
                await self._client.create(SERVICES.path(key.namespace), body)
                return READY
            service = parse_service(raw)
        if not belongs_to(service, connector):
            return conflict(key.name)
        if not is_alias_service(service, connector, uid, host):
            await self._client.patch(SERVICES.path(*key), repair_patch(service, body))
        return READY
