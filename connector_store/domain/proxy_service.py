"""The Service of a Connector, an alias for the proxy: its name, its label, and the URL that leads through it.

>>> service_name("k8s"), service_name("a.b")
('c-k8s', None)
>>> service_url(ObjectKey("team-a", "k8s"), "cluster.local")
'http://c-k8s.team-a.svc.cluster.local'
"""

from typing import Final

from connector_store.domain.names import ObjectKey, is_label

PREFIX: Final = "c-"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "connectors-controller"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Label selector of the Services that the controller has made."""


def service_name(connector: str) -> str | None:
    """None for a Connector whose name no Service can have: a DNS label (RFC 1035) of at most 63 characters."""
    name = PREFIX + connector
    return name if is_label(name) else None


def connector_of(service: ObjectKey) -> ObjectKey:
    """The Connector that a Service of that name would belong to."""
    return ObjectKey(service.namespace, service.name.removeprefix(PREFIX))


def service_url(connector: ObjectKey, cluster_domain: str) -> str:
    """Where the Connector's own Service leads to the proxy: `http://c-NAME.NAMESPACE.svc.DOMAIN`."""
    return f"http://{PREFIX}{connector.name}.{connector.namespace}.svc.{cluster_domain}"
