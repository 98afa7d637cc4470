"""Alias Service `c-<connector>`: an ExternalName for the proxy, owned by its Connector.

This module decides which Service a Connector needs and how to repair one. `proxy_services` writes it.
"""

from collections.abc import Mapping
from typing import Any, Final

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.proxy_service import ALIAS_PREFIX, MANAGED_BY, MANAGER, Service
from connector_store.domain.objects.manifest import API_VERSION
from connector_store.domain.status.conditions import Assessment

SERVICE_PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"
"""kube-proxy does not watch Services with this label. It has nothing to do for an ExternalName, on any node."""


def build_service(connector: ObjectKey, uid: str, host: str) -> dict[str, Any]:
    """Return the Service for a Connector. `host` is the proxy's name in the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": ALIAS_PREFIX + connector.name,
            "namespace": connector.namespace,
            "labels": {MANAGED_BY: MANAGER, SERVICE_PROXY_NAME: "connectors.alauda.io"},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "Connector",
                    "name": connector.name,
                    "uid": uid,
                    "controller": True,
                    # True would need the right to update finalizers of Connectors.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {"type": "ExternalName", "externalName": host},
    }


def belongs_to(service: Service, connector: ObjectKey) -> bool:
    """Return True if the Service has our label and a Connector of that name owns it, also one that existed before.

    A Service without the label belongs to another owner, even if the Connector is named as its owner. The admission
    policy also refuses writes to it.
    """
    return service.is_managed and service.owner_name == connector.name


def repair_patch(service: Service, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that changes `service` to `body`. Its resourceVersion guards against unseen changes."""
    metadata = body["metadata"]
    return {
        "metadata": {
            "resourceVersion": service.resource_version,
            "labels": metadata["labels"],
            "ownerReferences": metadata["ownerReferences"],
        },
        "spec": {**body["spec"], "clusterIP": None, "clusterIPs": None, "ports": None, "selector": None},
    }


NAME_NOT_ALLOWED: Final = Assessment(
    holds=False,
    reason="NameNotAllowed",
    message="the Connector's name has more than 61 characters or a dot, so no Service c-<name> can be made; "
    "create it anew under a shorter name without dots",
)
NON_PROXY: Final = Assessment(holds=True, reason="NonProxy", message="the setting proxy-service is empty")
READY: Final = Assessment(holds=True)


def conflict(name: str) -> Assessment:
    return Assessment(
        holds=False,
        reason="ProxyServiceConflict",
        message=f'services "{name}" exists and does not belong to this Connector; '
        "delete it, or create the Connector anew under another name",
    )


def not_found(name: str, reason: str) -> Assessment:
    return Assessment(holds=False, reason="ProxyServiceNotFound", message=f'services "{name}": {reason}')


def proxy_missing(service: ObjectKey) -> Assessment:
    return Assessment(
        holds=False,
        reason="ProxyServiceNotFound",
        message=f'services "{service.name}" not found in namespace "{service.namespace}"; '
        "deploy the proxy, or name its Service in proxy-service of the ConfigMap connectors-config",
    )
