"""The addresses that a target may have: an IP address is decided on before it is dialled, whoever resolved it."""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from connector_store.domain.config.settings import Network

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA_NETWORKS: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle Cloud, classic
            "fd00:42::42/128",  # Scaleway
            "fd00:a9fe:a9fe::/48",  # Akamai
            "fd00:c1::a9fe:a9fe/128",  # Oracle Cloud
            "fd00:ec2::/32",  # AWS, its other services for instances too
            "fd20:ce::254/128",  # Google Cloud
        ),
    )
)
"""What clouds tell their machines, credentials among it, at addresses that are not link-local."""
DENIED_IN_CLUSTER: Final[tuple[Network, ...]] = (
    *map(ipaddress.ip_network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/128", "::1/128", "fe80::/10")),
    *METADATA_NETWORKS,
)
"""Unspecified, loopback, link-local (RFC 6890): the proxy's own node and metadata services; and the other of these."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, kw_only=True)
class AddressPolicy:
    """Which resolved addresses may be dialled: those not in `deny`, and all in `allow`."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    @classmethod
    def from_settings(
        cls,
        *,
        allow: tuple[Network, ...],
        deny: tuple[Network, ...],
        in_cluster: bool,
        own_addresses: Iterable[str] = (),
    ) -> "AddressPolicy":
        """The policy of the settings `targets-allow` and `targets-deny`.

        In a cluster DENIED_IN_CLUSTER and `own` (the proxy's addresses: pod IPs, Service IPs) are denied besides.
        """
        if not in_cluster:
            return cls(allow=allow, deny=deny)
        own_networks = tuple(ipaddress.ip_network(normalise(each)) for each in own_addresses)
        return cls(allow=allow, deny=deny + DENIED_IN_CLUSTER + own_networks)

    def allows(self, ip: str | IpAddress) -> bool:
        """False for a denied address, and for text that is no IP address."""
        try:
            address = normalise(ip)
        except ValueError:
            return False
        if _is_in_any(address, self.allow):
            return True
        return not any(_is_in_any(each, self.deny) for each in (address, *_embedded_ipv4(address)))

    @cached_property
    def denies(self) -> Callable[[str], bool]:
        """True for an IP address that may not be dialled; what a name resolves to is known only then.

        Answers are remembered: it is asked for every request.
        """
        return lru_cache(maxsize=1024)(self._denies)

    def _denies(self, host: str) -> bool:
        try:
            return not self.allows(ipaddress.ip_address(host))
        except ValueError:
            return False


def normalise(ip: str | IpAddress) -> IpAddress:
    """The address that is really dialled: IPv4-mapped IPv6 is IPv4, and a scope (`%eth0`) says nothing."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))


def _embedded_ipv4(address: IpAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """IPv4 addresses that a gateway makes of an IPv6 one: 6to4, NAT64 (RFC 6052), IPv4-compatible (RFC 4291)."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address in _NAT64 or address in _V4_COMPATIBLE:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def _is_in_any(address: IpAddress, networks: tuple[Network, ...]) -> bool:
    return any(address in each for each in networks)
