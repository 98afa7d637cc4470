"""What a pod finds in its volume: {file name: content}.

The configurations that it asked for, and the built-in files, which know one Connector: the first.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Final

from connector_store.domain.kubeconfig import TOKEN_FILE, Entry, proxy_url, render

KUBECONFIG: Final = "kubeconfig"
KUBECONFIG_ROTATING: Final = "kubeconfig-rotating"
CONFIGURATIONS: Final = (KUBECONFIG, KUBECONFIG_ROTATING)

BUILT_IN: Final = (
    TOKEN_FILE,
    "ca.crt",
    "ca.cert",
    "context.proxy.caCert",
    "connector.status.proxyAddress",
    "http.proxy",
    "https.proxy",
    ".env",
)
ERROR_FILE: Final = ".error.json"
"""Beside them while something cannot be renewed."""
NO_PROXY: Final = "localhost,127.0.0.1,::1"
"""What programs that take `.env` reach without the proxy: themselves."""


def render_files(
    entries: Sequence[Entry], configurations: Sequence[str], left_out: Set[str] = frozenset()
) -> Mapping[str, bytes]:
    """All files of a volume; `entries` is not empty, `configurations` are of CONFIGURATIONS."""
    first = entries[0]
    url = proxy_url(first)
    built_in = {
        TOKEN_FILE: first.token,
        "connector.status.proxyAddress": first.proxy,
        "http.proxy": url,
        "https.proxy": url,
        ".env": _env(url),
    }
    files = {name: text.encode() for name, text in built_in.items()}
    files |= dict.fromkeys(("ca.crt", "ca.cert", "context.proxy.caCert"), first.ca)
    kept = {name: content for name, content in files.items() if name not in left_out}
    rendered = {name: render(entries, rotating=name == KUBECONFIG_ROTATING).encode() for name in configurations}
    return kept | rendered


def _env(url: str) -> str:
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    return "".join(f"{name}={url}\n" for name in names) + f"no_proxy={NO_PROXY}\n"
