"""Host names of the proxy: its own names, and the alias of each Connector.

>>> names = OwnNames(hosts=("localhost",), cluster_domain="cluster.local")
>>> names.connector_by_alias("c-k8s.team-a.svc.cluster.local")
ObjectKey(namespace='team-a', name='k8s')
>>> names.connector_by_alias("localhost"), names.connector_by_alias("c-k8s")
(None, None)
"""

import ipaddress
from dataclasses import dataclass

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey, is_dns_label
from connector_store.domain.kubeconfig.proxy_service import ALIAS_PREFIX
from connector_store.domain.objects.address_matching import host_of_header


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNames:
    """The proxy's own names (`hosts`, in lower case), and the domain of the aliases."""

    hosts: tuple[str, ...]
    cluster_domain: str

    def connector_by_alias(self, host: str) -> ObjectKey | None:
        """Return the Connector of an alias, in any spelling that resolves in a cluster. Return None for other hosts.

        The Connector need not exist. Callers must not learn here whether it does.
        """
        if not host.startswith(ALIAS_PREFIX):
            return None
        for ending in (f".svc.{self.cluster_domain}", ".svc"):
            if host.endswith(ending) and "." in host.removesuffix(ending):
                host = host.removesuffix(ending)
                break
        service, dot, namespace = host.partition(".")
        if not dot or not is_dns_label(namespace) or not is_dns_label(service):
            return None
        name = service.removeprefix(ALIAS_PREFIX)
        return ObjectKey(namespace, name) if is_dns_label(name) else None


def parse_host_names(text: str) -> tuple[str, ...]:
    """Parse host names and IP addresses, separated by commas. A ParseError, with an empty path, has the first error."""
    return tuple(dict.fromkeys(_parse_host_name(name.strip()) for name in text.split(",") if name.strip()))


def _parse_host_name(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        host = host_of_header(text.encode())
    if host is None or host != text.lower().removesuffix("."):
        raise ParseError("", f"{text[:80]!r} is not a host name or an IP address, without a port")
    return host
