"""The names under which the proxy is reached: its own, and the alias of each Connector.

>>> names = OwnNames(hosts=("localhost",), cluster_domain="cluster.local")
>>> names.connector("c-k8s.team-a.svc.cluster.local")
ObjectKey(namespace='team-a', name='k8s')
>>> names.connector("localhost"), names.connector("c-k8s")
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
    """`hosts` are lower case; `cluster_domain` is that of the Services that are aliases."""

    hosts: tuple[str, ...]
    cluster_domain: str

    def connector_by_alias(self, host: str) -> ObjectKey | None:
        """The Connector whose alias that is, in one of the spellings that resolve in a cluster; None if of none.

        Whether there is such a Connector is nobody's to learn here.
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
    """Read host names and IP addresses, separated by commas; ParseError, with an empty path, names the first wrong."""
    return tuple(dict.fromkeys(_parse_host_name(each.strip()) for each in text.split(",") if each.strip()))


def _parse_host_name(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        host = host_of_header(text.encode())
    if host is None or host != text.lower().removesuffix("."):
        raise ParseError("", f"{text[:80]!r} is not a host name or an IP address, without a port")
    return host
