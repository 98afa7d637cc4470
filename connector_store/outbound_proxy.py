"""Proxy from the environment for our own requests, with the rules of kubectl and other Go programs.

aiohttp's own support (`trust_env`) uses a thread for each request, sends passwords from ~/.netrc, and does not support
networks in NO_PROXY.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

_PORTS: Final = {"http": 80, "https": 443}


def proxy_from_environment(url: str) -> str | None:
    """Return the proxy for `url` from HTTPS_PROXY or HTTP_PROXY.

    Return None if the variable is not set, if the URL's host is loopback, or if NO_PROXY excludes it. NO_PROXY lists
    names (which include their subdomains), addresses, networks such as 10.0.0.0/8, or `*`. A port may follow a name or
    an address. Source: golang.org/x/net/http/httpproxy, Config. Raises ValueError for an invalid URL.
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
