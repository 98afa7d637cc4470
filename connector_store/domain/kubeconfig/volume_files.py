"""Files of a volume: the requested configurations, and the built-in files.

The built-in files are for one Connector, the first.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Final

from connector_store.domain.kubeconfig.kubeconfig import (
    TOKEN_FILE,
    KubeconfigEntry,
    KubeconfigStyle,
    build_kubeconfig,
    proxy_url,
    to_yaml,
)

CA_FILE: Final = "ca.crt"
IN_CLUSTER: Final = "in-cluster"
_STYLES: Final = {
    "kubeconfig": KubeconfigStyle(),
    "kubeconfig-rotating": KubeconfigStyle(rotating=True),
    "kubeconfig-direct": KubeconfigStyle(rotating=True, direct=True, ca_file=CA_FILE),
}
"""Configurations that are a kubeconfig. The file has the name of the configuration."""
REQUIRED_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "kubeconfig-rotating": (TOKEN_FILE,),
    "kubeconfig-direct": (TOKEN_FILE, CA_FILE),
    IN_CLUSTER: (CA_FILE,),
}
"""Built-in files that each configuration also needs."""
BUILT_IN_FILES: Final = (
    TOKEN_FILE,
    CA_FILE,
    "ca.cert",
    "context.proxy.caCert",
    "connector.status.proxyAddress",
    "http.proxy",
    "https.proxy",
    ".env",
)
ERROR_FILE: Final = ".error.json"
"""File that exists in the volume while a renewal fails."""
NO_PROXY: Final = "localhost,127.0.0.1,::1"
"""Hosts that programs with `.env` reach without the proxy: only the program's own host."""


def render_files(
    entries: Sequence[KubeconfigEntry],
    configurations: Sequence[str],
    excluded_files: Set[str] = frozenset(),
    *,
    namespace: str,
) -> Mapping[str, bytes]:
    """Return all files of a volume by name. `entries` must not be empty.

    `configurations` are from `builtin.CONFIGURATIONS`. `namespace` is the pod's. It is the default namespace of
    programs that use the target as their own cluster.
    """
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
    files |= dict.fromkeys((CA_FILE, "ca.cert", "context.proxy.caCert"), first.ca)
    included = {name: content for name, content in files.items() if name not in excluded_files}
    styles = {name: style for name, style in _STYLES.items() if name in configurations}
    rendered = {name: to_yaml(build_kubeconfig(entries, style)).encode() for name, style in styles.items()}
    if IN_CLUSTER in configurations:
        # client-go (rest.InClusterConfig) reads these, and ca.crt.
        rendered |= {"token": first.token.encode(), "namespace": namespace.encode()}
    return included | rendered


def _env(url: str) -> str:
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    return "".join(f"{name}={url}\n" for name in names) + f"no_proxy={NO_PROXY}\n"
