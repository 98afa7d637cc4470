"""A command's options -> Connectors, tokens and kubeconfig entries, of whichever source they name.

Each source is imported when it is asked: a cluster's takes most of a second.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.pem import parse_certificates
from connector_store.domain.config.settings import Settings
from connector_store.domain.config.source import FolderSource
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.objects.matching import parse_address
from connectorctl.options import Caller, Where
from connectorctl.origin import choose_origin
from connectorctl.seen import Seen
from connectorctl.situation import Situation


def load(where: Where, settings: Settings, situation: Situation, *, namespace: str | None) -> Seen:
    """What a proxy on this source would have; of a cluster only `namespace` (None: all)."""
    origin = choose_origin(where, situation)
    if isinstance(origin, FolderSource):
        from connectorctl import folder

        return Seen(store=folder.load(Path(origin.path), settings))
    from connectorctl import cluster

    return cluster.load(where, origin, settings, namespace=namespace)


def mint(key: ObjectKey, where: Where, caller: Caller, settings: Settings, situation: Situation) -> str:
    """A caller's token for the Connector `key`."""
    origin = choose_origin(where, situation, caller)
    if isinstance(origin, FolderSource):
        from connectorctl import folder

        return folder.token(Path(origin.path), key, caller, settings, time.time())
    from connectorctl import cluster

    return cluster.token(where, origin, key, caller, settings)


def entries(
    keys: Sequence[ObjectKey],
    where: Where,
    caller: Caller,
    settings: Settings,
    situation: Situation,
    *,
    proxy: str | None,
) -> list[KubeconfigEntry]:
    """What a kubeconfig for `keys` is made of; `proxy` is the URL that was named, None for what the source knows."""
    origin = choose_origin(where, situation, caller)
    if isinstance(origin, FolderSource):
        from connectorctl import folder

        return folder.entries(Path(origin.path), keys, caller, settings, time.time(), proxy=proxy)
    from connectorctl import cluster

    return cluster.entries(where, origin, keys, caller, settings, proxy=proxy)


def outside_entries(keys: Sequence[ObjectKey], proxy: str, ca: Path) -> list[KubeconfigEntry]:
    """The same for a caller from outside, who sees nothing of the source: the proxy decides about the token."""
    try:
        pem = b"".join(parse_certificates(ca.read_bytes()))
    except OSError as error:
        raise ParseError(str(ca), f"{error.strerror}; get it from the proxy: curl https://PROXY/ca.crt") from None
    except ParseError as error:
        raise ParseError(str(ca), error.reason) from None
    if not proxy.startswith("https://"):
        raise ParseError("--proxy", "is not https://HOST[:PORT]: the token would cross the network in clear")
    return [KubeconfigEntry(key=key, address=parse_address(proxy), proxy=proxy, ca=pem, token="") for key in keys]
