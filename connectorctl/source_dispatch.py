"""Connectors, tokens and kubeconfig entries of the source that a command's options name.

The module of a source is imported on its first use, because that of clusters takes most of a second.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.pem import parse_certificates
from connector_store.domain.config.connector_source import FolderSource
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.objects.address_matching import parse_address
from connectorctl.description import ConnectorDetails
from connectorctl.inventory import Inventory
from connectorctl.invocation import Invocation
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.source import resolve_source


def load_inventory(source_options: SourceOptions, invocation: Invocation, *, namespace: str | None) -> Inventory:
    """Load what a proxy on this source would have. Of a cluster, load only `namespace` (None: all)."""
    source = resolve_source(source_options, invocation)
    if isinstance(source, FolderSource):
        from connectorctl import folder_source

        return Inventory(store=folder_source.load_store(Path(source.path), invocation.settings))
    from connectorctl import cluster_source

    return cluster_source.load_inventory(source_options, source, invocation.settings, namespace=namespace)


def load_details(key: ObjectKey, source_options: SourceOptions, invocation: Invocation) -> ConnectorDetails:
    """Load what the source has about the Connector `key`."""
    source = resolve_source(source_options, invocation)
    if isinstance(source, FolderSource):
        from connectorctl import folder_source

        return folder_source.load_details(Path(source.path), key, invocation.settings)
    from connectorctl import cluster_source

    return cluster_source.load_details(source_options, source, key, invocation.settings)


def issue_token(
    key: ObjectKey,
    source_options: SourceOptions,
    caller_options: CallerOptions,
    invocation: Invocation,
) -> str:
    """Return a caller's token for the Connector `key`."""
    source = resolve_source(source_options, invocation, caller_options)
    if isinstance(source, FolderSource):
        from connectorctl import folder_source

        return folder_source.issue_token(Path(source.path), key, caller_options, invocation.settings, time.time())
    from connectorctl import cluster_tokens

    return cluster_tokens.issue_token(source_options, source, key, caller_options, invocation.settings)


def build_entries(
    keys: Sequence[ObjectKey],
    source_options: SourceOptions,
    caller_options: CallerOptions,
    invocation: Invocation,
    *,
    proxy: str | None,
) -> list[KubeconfigEntry]:
    """Return the kubeconfig entries of `keys`. `proxy` is the URL of --proxy, or None for that of the source."""
    source = resolve_source(source_options, invocation, caller_options)
    if isinstance(source, FolderSource):
        from connectorctl import folder_source

        return folder_source.build_entries(
            Path(source.path), keys, caller_options, invocation.settings, time.time(), proxy=proxy
        )
    from connectorctl import cluster_tokens

    return cluster_tokens.build_entries(source_options, source, keys, caller_options, invocation.settings, proxy=proxy)


def build_oidc_entries(keys: Sequence[ObjectKey], proxy: str, ca: Path) -> list[KubeconfigEntry]:
    """Return the kubeconfig entries for an OIDC caller, without reading a source.

    `ca` is a file with the proxy's CA. The entries have no token.
    """
    try:
        pem = b"".join(parse_certificates(ca.read_bytes()))
    except OSError as error:
        raise ParseError(str(ca), f"{error.strerror}; get it from the proxy: curl https://PROXY/ca.crt") from None
    except ParseError as error:
        raise ParseError(str(ca), error.reason) from None
    if not proxy.startswith("https://"):
        raise ParseError("--proxy", "is not https://HOST[:PORT]; without TLS, others could read the token")
    return [KubeconfigEntry(key=key, address=parse_address(proxy), proxy=proxy, ca=pem, token="") for key in keys]
