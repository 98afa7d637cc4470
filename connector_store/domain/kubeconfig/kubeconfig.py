"""Writer of kubeconfigs for Connectors. A kubeconfig leads through the proxy and contains no credential of a target.

- A single entry gives one cluster, user and context named `k8s`. Several entries are named NAMESPACE/NAME, and the
  first is the current context.
- The rotating form has the password `x` in proxy-url, and the token in a file next to it. client-go reads that file
  again every minute.
- The direct form has no proxy-url. Its server is the proxy, and the path or the host names the Connector.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import yaml

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.authorization_header import TOKEN_IN_REQUESTS
from connector_store.domain.kubeconfig.proxy_service import is_alias
from connector_store.domain.objects.models import Address

TOKEN_FILE: Final = "context.token"  # noqa: S105 - the name of a file
PLACEHOLDER: Final = "fake-token"
"""Placeholder for the target's token, for clients that require a token."""
_SINGLE_CONTEXT_NAME: Final = "k8s"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeconfigEntry:
    """One Connector of a kubeconfig.

    `proxy` is the proxy's URL, `http[s]://HOST[:PORT]`. `ca` is the PEM of the proxy's CAs. `token` is the caller's.
    """

    key: ObjectKey
    address: Address
    proxy: str
    ca: bytes
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeconfigStyle:
    """Options for the form of a kubeconfig.

    - `rotating`: the token is in a file next to the kubeconfig.
    - `direct`: the server is the proxy, over TLS.
    - `ca_file`: name of the CA file next to the kubeconfig. Without it, the kubeconfig contains the CA.
    - `exec_plugin`: returns `users[].user.exec`, a command that prints the Connector's token
      (client.authentication.k8s.io).
    - `context_name`: name of the context if there is only one Connector.
    - `namespace`: default namespace of the contexts.
    """

    rotating: bool = False
    direct: bool = False
    ca_file: str | None = None
    exec_plugin: Callable[[ObjectKey], Mapping[str, object]] | None = None
    context_name: str | None = None
    namespace: str | None = None

    @property
    def token_in_requests(self) -> bool:
        """True if the client sends the token with its requests, and not with CONNECT."""
        return self.rotating or self.exec_plugin is not None


def parse_proxy_url(url: str) -> tuple[str, str, int]:
    """Return scheme, host (an IPv6 address in brackets) and port. Raise ParseError if `url` is not a proxy's URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ParseError("proxy", "is not a URL; write http://HOST:PORT or https://HOST:PORT") from None
    host = parts.hostname or ""
    extra = parts.username is not None or parts.path.strip("/")
    if not port or parts.scheme not in _DEFAULT_PORTS or _HOST.fullmatch(host) is None or extra:
        raise ParseError("proxy", "is not the URL of a proxy; write http://HOST:PORT or https://HOST:PORT")
    return parts.scheme, f"[{host}]" if ":" in host else host, port


def proxy_url(entry: KubeconfigEntry, *, rotating: bool = False) -> str:
    """Return the proxy's URL with the caller's credentials (RFC 3986 section 3.2.1) and an explicit port.

    Some clients require the port. Raise ParseError if `entry.proxy` is not a proxy's URL.
    """
    scheme, host, port = parse_proxy_url(entry.proxy)
    user = quote(str(entry.key), safe="")
    password = TOKEN_IN_REQUESTS if rotating else quote(entry.token, safe="")
    return f"{scheme}://{user}:{password}@{host}:{port}"


def direct_url(entry: KubeconfigEntry) -> str:
    """Return the URL of the proxy as the server: the alias if `entry.proxy` is the alias, else a path of the proxy.

    One port serves plain HTTP and TLS. Without a port in the URL, each scheme has its default port. Raise ParseError
    if `entry.proxy` is not a proxy's URL.
    """
    scheme, host, port = parse_proxy_url(entry.proxy)
    authority = host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
    return f"https://{authority}" if is_alias(host, entry.key) else f"https://{authority}/connectors/{entry.key}"


def to_yaml(config: Mapping[str, Any]) -> str:
    """Return a kubeconfig as YAML, with the order of its fields."""
    text: str = yaml.safe_dump(dict(config), sort_keys=False, width=1_000_000)
    return text


def build_kubeconfig(entries: Sequence[KubeconfigEntry], style: KubeconfigStyle) -> dict[str, Any]:
    """Return the kubeconfig (v1 Config, client-go tools/clientcmd/api/v1). `entries` must not be empty."""
    single_name = style.context_name or _SINGLE_CONTEXT_NAME
    names = [single_name] if len(entries) == 1 else [str(entry.key) for entry in entries]
    namespace = {"namespace": style.namespace} if style.namespace else {}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": _cluster(entry, style)} for name, entry in zip(names, entries, strict=True)
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **namespace}} for name in names],
        "users": [{"name": name, "user": _user(entry, style)} for name, entry in zip(names, entries, strict=True)],
        "current-context": names[0],
    }


def _user(entry: KubeconfigEntry, style: KubeconfigStyle) -> dict[str, Any]:
    if style.exec_plugin is not None:
        return {"exec": dict(style.exec_plugin(entry.key))}
    if style.rotating:
        return {"tokenFile": TOKEN_FILE}
    return {"token": entry.token if style.direct else PLACEHOLDER}


def _cluster(entry: KubeconfigEntry, style: KubeconfigStyle) -> dict[str, str]:
    if style.direct:
        cluster = {"server": direct_url(entry)}
    else:
        cluster = {"server": str(entry.address), "proxy-url": proxy_url(entry, rotating=style.token_in_requests)}
    if style.ca_file is not None:
        return cluster | {"certificate-authority": style.ca_file}
    return cluster | {"certificate-authority-data": base64.b64encode(entry.ca).decode("ascii")}
