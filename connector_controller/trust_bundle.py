"""ClusterTrustBundle with the CAs that callers must trust, if the API server has that kind (KEP-3257).

In clusters without our CSI driver, pods project it into a file. kubelet keeps the file current during a rotation.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import MANAGED_BY, MANAGER
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError, suppress_status
from connector_store.kube.resources import NAMESPACES, Resource
from connector_store.kube.sinks import object_reflector
from connector_store.kube.work_queue import WorkQueue, run_workers

logger = logging.getLogger(__name__)

_GROUP: Final = "certificates.k8s.io"
VERSIONS: Final = ("v1", "v1beta1")
"""API versions, the newest first. Kubernetes has v1 since 1.37, and v1beta1 since 1.33 if it is enabled."""

RETRY_DELAY: Final = 10.0
"""Seconds between two attempts to read the API server's kinds."""


async def find_resource(client: KubeClient) -> Resource | None:
    """Return the kind in the newest version that the API server has, or None."""
    for version in VERSIONS:
        resource = Resource(_GROUP, version, "clustertrustbundles", "ClusterTrustBundle")
        discovery = await client.find(f"/apis/{_GROUP}/{version}") or {}
        if any(each.get("name") == resource.plural for each in discovery.get("resources") or ()):
            return resource
    return None


class TrustBundle:
    """Reconciler of the bundle, which is named by the setting ca-configmap. `pem` returns its content."""

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        pem: Callable[[], bytes | None],
        *,
        on_restart: Callable[[str], None] = lambda kind: None,
        retry_delay: float = RETRY_DELAY,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue("bundle")
        self._client = client
        self._settings = settings
        self._name = settings.ca_configmap
        self._pem = pem
        self._on_restart = on_restart
        self._retry_delay = retry_delay
        self._bundle: Mapping[str, Any] | None = None
        self._resource = Resource(_GROUP, VERSIONS[0], "clustertrustbundles", "ClusterTrustBundle")
        self._logged_unmanaged = False

    def enqueue(self) -> None:
        """Reconcile the bundle again, because `pem` changed."""
        self.queue.add(self._name)

    async def run(self, reconcile: Callable[[str], Awaitable[float | None]]) -> None:
        """Watch and reconcile the bundle. Return at once if the API server does not have the kind.

        `reconcile` is the method of this object, or a wrapper of it.
        """
        resource = await self._wait_for_resource()
        if resource is None:
            return
        self._resource = resource
        reflector = object_reflector(
            self._client,
            resource,
            ObjectKey("", self._name),
            self._on_bundle_changed,
            watch_timeout=self._settings.watch_timeout,
            on_restart=self._on_restart,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reflector.run())
            await reflector.synced.wait()
            tasks.create_task(run_workers(self.queue, reconcile))

    async def _wait_for_resource(self) -> Resource | None:
        while True:
            try:
                return await find_resource(self._client)
            except ApiError as error:
                logger.warning("cannot find out if the API server has ClusterTrustBundles: %s", error)
                await asyncio.sleep(self._retry_delay)

    def _on_bundle_changed(self, raw: Mapping[str, Any] | None) -> None:
        self._bundle = raw
        self.queue.add(self._name)

    async def reconcile(self, _: str) -> float | None:
        """Create or update the bundle. A bundle without our label belongs to another owner and is not changed."""
        pem = self._pem()
        if pem is None:
            return None
        spec = {"trustBundle": pem.decode()}
        if self._bundle is None:
            await self._create(spec)
            return None
        metadata = self._bundle["metadata"]
        if (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGER:
            if not self._logged_unmanaged:
                logger.warning(
                    "%s %r does not have the controller's label, so it is not changed", self._resource, self._name
                )
            self._logged_unmanaged = True
        elif (self._bundle.get("spec") or {}).get("trustBundle") != spec["trustBundle"]:
            version = {"resourceVersion": metadata["resourceVersion"]}
            await self._client.patch(self._resource.path(None, self._name), {"metadata": version, "spec": spec})
        return None

    async def _create(self, spec: Mapping[str, str]) -> None:
        system = self._settings.system_namespace
        namespace = await self._client.get(NAMESPACES.path(None, system))
        body = {
            "apiVersion": f"{self._resource.group}/{self._resource.version}",
            "kind": self._resource.kind,
            "metadata": {
                "name": self._name,
                "labels": {MANAGED_BY: MANAGER},
                # Delete the bundle with the product's namespace, so that an uninstallation leaves nothing.
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Namespace", "name": system, "uid": namespace["metadata"]["uid"]}
                ],
            },
            "spec": dict(spec),
        }
        # If it exists, the watch reports whose bundle it is.
        with suppress_status(HTTPStatus.CONFLICT):
            await self._client.create(self._resource.path(), body)
