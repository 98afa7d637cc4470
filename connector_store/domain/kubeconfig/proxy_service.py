"""The Service of a Connector, which is an alias of the proxy: its name, its label and its URL.

Callers send their tokens to the alias, so the programs verify a Service before they publish its name. It must be an
ExternalName of the proxy, have our label, and be owned by its Connector.

>>> alias_service_name("k8s"), alias_service_name("a.b")
('c-k8s', None)
>>> alias_url(ObjectKey("team-a", "k8s"), "cluster.local")
'http://c-k8s.team-a.svc.cluster.local'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.base.names import ObjectKey, is_dns_label
from connector_store.domain.config.settings import Settings
from connector_store.domain.objects.manifest import API_GROUP

ALIAS_PREFIX: Final = "c-"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "connectors-controller"
ALIAS_SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Label selector of the Services that the controller creates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The fields of a Service that the programs use. `owner_name` is the Connector that owns it, or None."""

    key: ObjectKey
    uid: str = ""
    resource_version: str = ""
    is_managed: bool = False
    owner_name: str | None = None
    owner_uid: str = ""
    external_name: str | None = None


def parse_service(raw: Mapping[str, Any]) -> Service:
    """Parse a Service from the API server."""
    metadata = raw["metadata"]
    spec = raw.get("spec") or {}
    owner: Mapping[str, Any] = next(filter(_is_connector, metadata.get("ownerReferences") or ()), {})
    return Service(
        key=ObjectKey(metadata["namespace"], metadata["name"]),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        is_managed=(metadata.get("labels") or {}).get(MANAGED_BY) == MANAGER,
        owner_name=owner.get("name"),
        owner_uid=owner.get("uid", ""),
        external_name=spec.get("externalName") if spec.get("type") == "ExternalName" else None,
    )


def is_alias_service(service: Service, connector: ObjectKey, uid: str, host: str) -> bool:
    """Return True if `service` is the alias of the Connector with that `uid`, for the proxy at `host`."""
    return (
        service.is_managed
        and (service.key.namespace, service.key.name) == (connector.namespace, alias_service_name(connector.name))
        and (service.owner_name, service.owner_uid) == (connector.name, uid)
        and service.external_name == host
    )


def alias_service_name(connector: str) -> str | None:
    """Return the name of the Connector's alias Service, or None if it would not be a valid name.

    A Service's name is a DNS label (RFC 1035) of at most 63 characters.
    """
    name = ALIAS_PREFIX + connector
    return name if is_dns_label(name) else None


def connector_of_alias(service: ObjectKey) -> ObjectKey:
    """Return the Connector to which a Service of that name would belong."""
    return ObjectKey(service.namespace, service.name.removeprefix(ALIAS_PREFIX))


def alias_url(connector: ObjectKey, cluster_domain: str) -> str:
    """Return the URL of the Connector's alias: `http://c-NAME.NAMESPACE.svc.DOMAIN`."""
    return f"http://{ALIAS_PREFIX}{connector.name}.{connector.namespace}.svc.{cluster_domain}"


def proxy_url_for(connector: ObjectKey, settings: Settings, *, alias_verified: bool) -> str | None:
    """Return the proxy's URL for a kubeconfig: the alias if `alias_verified`, else the proxy's own Service.

    The scheme is https if the setting `proxy-tls` is on. Return None if the settings name no Service of the proxy,
    because no URL is then known to lead to the proxy.
    """
    if settings.proxy_host is None:
        return None
    url = alias_url(connector, settings.cluster_domain) if alias_verified else f"http://{settings.proxy_host}"
    return "https" + url.removeprefix("http") if settings.proxy_tls else url


def is_alias(host: str, connector: ObjectKey) -> bool:
    """Return True if `host` is the Connector's alias, with any cluster domain."""
    return host.startswith(f"{ALIAS_PREFIX}{connector.name}.{connector.namespace}.svc.")


def _is_connector(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == "Connector" and str(owner.get("apiVersion", "")).startswith(API_GROUP + "/")
