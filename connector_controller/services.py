"""The Service `c-<connector>`: an ExternalName to the proxy, owned by its Connector.

Which one is wanted and whether one that is there will do are decided here; `reconcile` does it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.conditions import Finding
from connector_store.domain.manifest import API_GROUP, API_VERSION
from connector_store.domain.names import ObjectKey
from connector_store.domain.proxy_service import MANAGED_BY, MANAGER, PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service as far as we look at it. `connector` is the name of the Connector that owns it, if one does."""

    key: ObjectKey
    uid: str = ""
    version: str = ""
    managed: bool = False
    connector: str | None = None
    owner_uid: str = ""
    external_name: str | None = None


def parse_service(raw: Mapping[str, Any]) -> Service:
    """Read a Service of the API server's."""
    metadata = raw["metadata"]
    spec = raw.get("spec") or {}
    owner: Mapping[str, Any] = next((each for each in metadata.get("ownerReferences") or () if _is_connector(each)), {})
    return Service(
        key=ObjectKey(metadata["namespace"], metadata["name"]),
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        managed=(metadata.get("labels") or {}).get(MANAGED_BY) == MANAGER,
        connector=owner.get("name"),
        owner_uid=owner.get("uid", ""),
        external_name=spec.get("externalName") if spec.get("type") == "ExternalName" else None,
    )


def wanted(connector: ObjectKey, uid: str, host: str) -> dict[str, Any]:
    """The Service that a Connector shall have; `host` is the proxy's name in the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": PREFIX + connector.name,
            "namespace": connector.namespace,
            "labels": {MANAGED_BY: MANAGER},
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


def is_ours(service: Service, connector: ObjectKey, uid: str) -> bool:
    """True for the Connector's own, also where its label or, after the Connector was made anew, its owner is stale."""
    return service.owner_uid == uid or (service.managed and service.connector == connector.name)


def will_do(service: Service, uid: str, host: str) -> bool:
    return service.managed and service.owner_uid == uid and service.external_name == host


def repair(service: Service, body: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes `service` what `body` says; the version guards against what was not seen."""
    metadata = body["metadata"]
    return {
        "metadata": {
            "resourceVersion": service.version,
            "labels": metadata["labels"],
            "ownerReferences": metadata["ownerReferences"],
        },
        "spec": {**body["spec"], "clusterIP": None, "clusterIPs": None, "ports": None, "selector": None},
    }


NAME_NOT_ALLOWED: Final = Finding(
    holds=False,
    reason="NameNotAllowed",
    message="the Connector's name has more than 61 characters or a dot, so no Service c-<name> can be made; "
    "create it anew under a shorter name without dots",
)
NON_PROXY: Final = Finding(holds=True, reason="NonProxy", message="the setting proxy-service is empty")
READY: Final = Finding(holds=True)


def conflict(name: str) -> Finding:
    return Finding(
        holds=False,
        reason="ProxyServiceConflict",
        message=f'services "{name}" exists and does not belong to this Connector; '
        "delete it, or create the Connector anew under another name",
    )


def not_found(name: str, why: str) -> Finding:
    return Finding(holds=False, reason="ProxyServiceNotFound", message=f'services "{name}": {why}')


def proxy_missing(service: ObjectKey) -> Finding:
    return Finding(
        holds=False,
        reason="ProxyServiceNotFound",
        message=f'services "{service.name}" not found in namespace "{service.namespace}"; '
        "deploy the proxy, or name its Service in proxy-service of the ConfigMap connectors-config",
    )


def _is_connector(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == "Connector" and str(owner.get("apiVersion", "")).startswith(API_GROUP + "/")
