"""Connectors -> the kubeconfig of a workload: it leads through the proxy and holds no credential of a target.

One entry gives one cluster, user and context named `k8s`; several are named NAMESPACE/NAME each, the first is
current. The rotating form has password `x` in proxy-url and the token in a file beside it, which client-go reads
again every minute.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

import yaml

from connector_store.domain.caller import TOKEN_COMES_INSIDE
from connector_store.domain.errors import ParseError
from connector_store.domain.models import Address
from connector_store.domain.names import ObjectKey

TOKEN_FILE: Final = "context.token"  # noqa: S105 - the name of a file
PLACEHOLDER: Final = "fake-token"
"""Stands for the target's token, so that clients which insist on one send something."""
_ONLY: Final = "k8s"
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One Connector of a kubeconfig.

    `proxy` is the proxy's `http://HOST[:PORT]`; `ca` the PEM of the proxy's CA or CAs; `token` the caller's.
    """

    key: ObjectKey
    address: Address
    proxy: str
    ca: bytes
    token: str = field(repr=False)


def proxy_url(entry: Entry, *, rotating: bool = False) -> str:
    """The proxy's URL with the caller's credentials (RFC 3986 section 3.2.1) and an explicit port.

    The port is written out because some clients demand one; ParseError if `proxy` is not an http URL with a host.
    """
    host, port = _host_port(entry.proxy)
    user = quote(str(entry.key), safe="")
    password = TOKEN_COMES_INSIDE if rotating else quote(entry.token, safe="")
    return f"http://{user}:{password}@{host}:{port}"


def render(entries: Sequence[Entry], *, rotating: bool = False) -> str:
    """The kubeconfig (v1 Config, client-go tools/clientcmd/api/v1) as YAML; `entries` is not empty."""
    names = [_ONLY] if len(entries) == 1 else [str(each.key) for each in entries]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": str(entry.address),
                    "proxy-url": proxy_url(entry, rotating=rotating),
                    "certificate-authority-data": base64.b64encode(entry.ca).decode("ascii"),
                },
            }
            for name, entry in zip(names, entries, strict=True)
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
        "users": [{"name": name, "user": _user(rotating)} for name in names],
        "current-context": names[0],
    }
    text: str = yaml.safe_dump(config, sort_keys=False, width=1_000_000)
    return text


def _user(rotating: bool) -> dict[str, str]:
    return {"tokenFile": TOKEN_FILE} if rotating else {"token": PLACEHOLDER}


def _host_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise ParseError("proxy", "is not a URL; write http://HOST:PORT") from None
    host = parts.hostname or ""
    if parts.scheme != "http" or _HOST.fullmatch(host) is None or parts.username is not None or parts.path.strip("/"):
        raise ParseError("proxy", "is not the URL of a proxy; write http://HOST:PORT")
    return f"[{host}]" if ":" in host else host, port
