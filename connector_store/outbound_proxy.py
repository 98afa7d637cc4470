"""The proxy that the environment names for requests of our own, as kubectl and Go's programs read it.

aiohttp's own reading (`trust_env`) takes a thread for each request, sends passwords of ~/.netrc, and knows no networks.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

_PORTS: Final = {"http": 80, "https": 443}


def proxy_from_environment(url: str) -> str | None:
    """HTTPS_PROXY, or HTTP_PROXY, for `url`; None where it is unset, or NO_PROXY or loopback says otherwise.

    NO_PROXY holds names, which are for their subdomains too, addresses, networks as 10.0.0.0/8, or `*`; a port may
    follow a name or an address. Source: golang.org/x/net/http/httpproxy, Config. ValueError for a URL that is none.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme)
    if proxy is None or proxy_bypass(f"{host}:{port}") or _bypasses_proxy(host, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _bypasses_proxy(host: str, no_proxy: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or any(_contains(each.strip(), address) for each in no_proxy.split(","))


def _contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
