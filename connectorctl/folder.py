"""A folder of manifests as a source: its Connectors, and tokens signed with the proxy's own key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.objects.models import Connector, InvalidConnector
from connector_store.folder.access import SigningKey
from connector_store.folder.source import FolderWatch
from connector_store.store import Store
from connectorctl.options import Caller
from connectorctl.proxy_ca import confdir_or_default, read_proxy_ca

DEFAULT_PROXY: Final = "http://127.0.0.1:8080"


def load(folder: Path, settings: Settings) -> Store:
    """The store that a proxy on this folder would have; ParseError if there is no such folder."""
    if folder.is_file():
        raise ParseError(str(folder), f"is a file; name its folder, {folder.parent}")
    if not folder.is_dir():
        raise ParseError(str(folder), f"is not there; make it with: connectorctl init {folder}")
    store = Store()
    FolderWatch(folder, store, system_namespace=settings.system_namespace).load_once()
    return store


def entries(
    folder: Path, keys: Sequence[ObjectKey], caller: Caller, settings: Settings, now: float, *, proxy: str | None
) -> list[KubeconfigEntry]:
    """What a kubeconfig for `keys` is made of; `now` in unix seconds."""
    store = load(folder, settings)
    connectors = [_find(store, key, folder) for key in keys]
    ca = read_proxy_ca(caller.confdir)
    return [
        KubeconfigEntry(
            key=each.key,
            address=each.address,
            proxy=proxy or DEFAULT_PROXY,
            ca=ca,
            token=_mint(each.key, caller, settings, now),
        )
        for each in connectors
    ]


def token(folder: Path, key: ObjectKey, caller: Caller, settings: Settings, now: float) -> str:
    """A token for one Connector."""
    _find(load(folder, settings), key, folder)
    return _mint(key, caller, settings, now)


def _find(store: Store, key: ObjectKey, folder: Path) -> Connector:
    match store.connector(key):
        case None:
            raise ParseError(
                "", f'connectors.connectors.alauda.io "{key.name}" not found in namespace "{key.namespace}" of {folder}'
            )
        case InvalidConnector() as rejected:
            raise ParseError(f"Connector {key}", rejected.message)
        case found:
            return found


def _mint(key: ObjectKey, caller: Caller, settings: Settings, now: float) -> str:
    signing = SigningKey.load_or_create(confdir_or_default(caller.confdir))
    return signing.issue(key, ttl=caller.ttl, now=now, audience=settings.audience)
