"""The Service of a Connector, an alias for the proxy: its name, its label, and the URL that leads through it.

Callers send their tokens where it leads, so nobody names it to them who has not seen that it is ours: an ExternalName
to the proxy, with our label, owned by its Connector.

>>> service_name("k8s"), service_name("a.b")
('c-k8s', None)
>>> service_url(ObjectKey("team-a", "k8s"), "cluster.local")
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
"""Label selector of the Services that the controller has made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service as far as we look at it. `connector` is the name of the Connector that owns it, if one does."""

    key: ObjectKey
    uid: str = ""
    resource_version: str = ""
    is_managed: bool = False
    owner_name: str | None = None
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
        resource_version=metadata.get("resourceVersion", ""),
        is_managed=(metadata.get("labels") or {}).get(MANAGED_BY) == MANAGER,
        owner_name=owner.get("name"),
        owner_uid=owner.get("uid", ""),
        external_name=spec.get("externalName") if spec.get("type") == "ExternalName" else None,
    )


def is_alias_service(service: Service, connector: ObjectKey, uid: str, host: str) -> bool:
    """True if it is the alias of the Connector with that uid, for the proxy at `host`."""
    return (
        service.is_managed
        and (service.key.namespace, service.key.name) == (connector.namespace, alias_service_name(connector.name))
        and (service.owner_name, service.owner_uid) == (connector.name, uid)
        and service.external_name == host
    )


def alias_service_name(connector: str) -> str | None:
    """None for a Connector whose name no Service can have: a DNS label (RFC 1035) of at most 63 characters."""
    name = ALIAS_PREFIX + connector
    return name if is_dns_label(name) else None


def connector_of_alias(service: ObjectKey) -> ObjectKey:
    """The Connector that a Service of that name would belong to."""
    return ObjectKey(service.namespace, service.name.removeprefix(ALIAS_PREFIX))


def alias_url(connector: ObjectKey, cluster_domain: str) -> str:
    """Where the Connector's own Service leads to the proxy: `http://c-NAME.NAMESPACE.svc.DOMAIN`."""
    return f"http://{ALIAS_PREFIX}{connector.name}.{connector.namespace}.svc.{cluster_domain}"


def proxy_url_for(connector: ObjectKey, settings: Settings, *, alias_verified: bool) -> str | None:
    """What a kubeconfig names as the proxy: the alias if it was `seen` to be ours, else the proxy's own Service.

    By https where the setting `proxy-tls` says so. None where the settings name no Service of the proxy: then nothing
    can be known to lead there.
    """
    if settings.proxy_host is None:
        return None
    url = alias_url(connector, settings.cluster_domain) if alias_verified else f"http://{settings.proxy_host}"
    return "https" + url.removeprefix("http") if settings.proxy_tls else url


def is_alias(host: str, connector: ObjectKey) -> bool:
    """True for the name of the Connector's own Service with the cluster's domain behind it."""
    return host.startswith(f"{ALIAS_PREFIX}{connector.name}.{connector.namespace}.svc.")


def _is_connector(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == "Connector" and str(owner.get("apiVersion", "")).startswith(API_GROUP + "/")
