"""Placeholders: example tokens and hosts that were not replaced with real ones.

>>> is_placeholder("REPLACE-WITH-A-TOKEN"), is_placeholder("eyJ..."), is_example_host("k8s.example")
(True, True, True)
"""

import ipaddress
import re
from typing import Final

_MARKERS: Final = re.compile(
    r"\.\.\.|…|<.*>|\{\{.*\}\}|\$\{?[A-Za-z_]|replace|change-?me|your-|xxxx|example|^(?:token|secret|todo|tbd)$",
    re.IGNORECASE,
)
_EXAMPLE_NETWORKS: Final = tuple(
    map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"))
)
"""Networks for documentation (RFC 5737, RFC 3849, RFC 9637)."""
_EXAMPLE_DOMAINS: Final = ("example", "example.com", "example.net", "example.org", "invalid")
"""Reserved domains (RFC 2606, RFC 6761)."""
_MAX_LENGTH: Final = 128
"""Maximum length of a placeholder in characters. A real token is longer and can contain a marker by chance."""


def is_placeholder(token: str) -> bool:
    """Return True for a text that cannot be a token of a cluster."""
    return len(token) <= _MAX_LENGTH and _MARKERS.search(token) is not None


def is_example_host(host: str) -> bool:
    """Return True for a name or address reserved for examples. `host` is in lower case, without brackets."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return any(host == domain or host.endswith(f".{domain}") for domain in _EXAMPLE_DOMAINS)
    return any(address in network for network in _EXAMPLE_NETWORKS)
