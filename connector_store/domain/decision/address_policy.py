"""Policy for the addresses of targets. The proxy checks each IP address before it connects to it."""

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
            "fd00:ec2::/32",  # AWS, including its other services for instances
            "fd20:ce::254/128",  # Google Cloud
        ),
    )
)
"""Metadata services of clouds at addresses that are not link-local. They give out credentials."""
DENIED_IN_CLUSTER: Final[tuple[Network, ...]] = (
    *map(ipaddress.ip_network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/128", "::1/128", "fe80::/10")),
    *METADATA_NETWORKS,
)
"""Unspecified, loopback and link-local addresses (RFC 6890), and METADATA_NETWORKS.

They lead to the proxy's own node, or to metadata services.
"""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, kw_only=True)
class AddressPolicy:
    """Networks of targets. An address is allowed if it is in `allow`, or not in `deny`."""

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
        """Create the policy from the settings `targets-allow` and `targets-deny`.

        In a cluster, the policy also denies DENIED_IN_CLUSTER and `own_addresses` (the proxy's pod IPs and Service
        IPs).
        """
        if not in_cluster:
            return cls(allow=allow, deny=deny)
        own_networks = tuple(ipaddress.ip_network(normalise(address)) for address in own_addresses)
        return cls(allow=allow, deny=deny + DENIED_IN_CLUSTER + own_networks)

    def allows(self, ip: str | IpAddress) -> bool:
        """Return False for a denied address, and for text that is not an IP address."""
        try:
            address = normalise(ip)
        except ValueError:
            return False
        if _is_in_any(address, self.allow):
            return True
        return not any(_is_in_any(candidate, self.deny) for candidate in (address, *_embedded_ipv4(address)))

    @cached_property
    def denies(self) -> Callable[[str], bool]:
        """Function that returns True for a denied IP address. It returns False for a host name, which is not resolved.

        It caches its results, because it is called for every request.
        """
        return lru_cache(maxsize=1024)(self._denies)

    def _denies(self, host: str) -> bool:
        try:
            return not self.allows(ipaddress.ip_address(host))
        except ValueError:
            return False


def normalise(ip: str | IpAddress) -> IpAddress:
    """Return the address that a connection uses: IPv4 for IPv4-mapped IPv6, and no scope (`%eth0`)."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))


def _embedded_ipv4(address: IpAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """Return IPv4 addresses to which a gateway translates `address`: 6to4, NAT64 (RFC 6052), compatible (RFC 4291)."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address in _NAT64 or address in _V4_COMPATIBLE:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def _is_in_any(address: IpAddress, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
