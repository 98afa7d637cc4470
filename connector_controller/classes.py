"""Reconciler of ConnectorClasses: it creates `k8s` if absent, and reports the unsupported fields of others."""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any

from connector_controller.observed import ObjectCache, ObservedClass
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.credential_kinds import is_class_supported
from connector_store.domain.objects.manifest import API_VERSION
from connector_store.domain.objects.models import ConnectorClass
from connector_store.domain.status.conditions import Assessment, next_status
from connector_store.domain.status.status import CONDITION_READY, status_patch
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import suppress_status
from connector_store.kube.resources import CONNECTOR_CLASSES


class ClassReconciler:
    """Level-triggered reconciler, by the class's name."""

    def __init__(
        self, client: KubeClient, observed_classes: ObjectCache[str, ObservedClass], *, now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._observed_classes = observed_classes
        self._now = now

    async def reconcile(self, name: str) -> float | None:
        observed = self._observed_classes.get(name)
        if observed is None:
            if name == K8S.name:
                await self._create()
            return None
        if is_class_supported(observed.cls):
            await self._update(observed)
        return None

    async def _create(self) -> None:
        # Another client may have created it meanwhile.
        with suppress_status(HTTPStatus.CONFLICT):
            await self._client.create(CONNECTOR_CLASSES.path(), builtin_class_manifest())

    async def _update(self, observed: ObservedClass) -> None:
        status = next_status(
            {CONDITION_READY: readiness(observed.cls)},
            observed.status,
            generation=observed.cls.generation,
            proxy=observed.status.proxy,
            now=self._now(),
        )
        if status == observed.status:
            return
        metadata = {"uid": observed.cls.uid, "resourceVersion": observed.resource_version}
        body: dict[str, Any] = {"metadata": metadata, "status": status_patch(status, with_proxy=False)}
        with suppress_status(HTTPStatus.NOT_FOUND):
            await self._client.patch(CONNECTOR_CLASSES.path(None, observed.key, "status"), body)


def readiness(cls: ConnectorClass) -> Assessment:
    """Return the Ready condition of a supported class. The message names its unsupported fields."""
    if not cls.unsupported_fields:
        return Assessment(holds=True)
    return Assessment(holds=True, message="accepted and not run: " + ", ".join(cls.unsupported_fields))


def builtin_class_manifest() -> dict[str, Any]:
    """Return the manifest of the built-in class."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ConnectorClass",
        "metadata": {
            "name": K8S.name,
            "annotations": {"cpaas.io/description": "Kubernetes clusters"},
        },
        "spec": {
            "address": {
                "name": "address",
                "type": "string",
                "description": "base URL of the API server: https://HOST[:PORT][/PATH]",
            },
            "auth": {"types": [{"name": each.name, "secretType": each.secret_type} for each in K8S.auth_types]},
            "livenessProbe": {"http": {"path": K8S.liveness.path}} if K8S.liveness else None,
            "authProbes": [
                {"authName": name, "probe": {"http": {"path": probe.path}}} for name, probe in K8S.auth_probes.items()
            ],
            "configurations": [{"name": name} for name in K8S.configurations],
        },
    }
