"""A folder of manifests as a source: its Connectors, and tokens signed with the proxy's own key."""

from pathlib import Path
from typing import Final

from connector_store.domain.errors import ParseError
from connector_store.domain.kubeconfig import Entry
from connector_store.domain.models import Connector, Rejected
from connector_store.domain.names import ObjectKey
from connector_store.domain.settings import Settings
from connector_store.folder.access import SigningKey
from connector_store.folder.source import DirectorySource
from connector_store.store import Store
from connectorctl.arguments import Arguments
from connectorctl.proxy_ca import confdir_or_default, read_proxy_ca

DEFAULT_PROXY: Final = "http://127.0.0.1:8080"


def load(folder: Path, settings: Settings) -> Store:
    """The store that a proxy on this folder would have; ParseError if there is no such folder."""
    if not folder.is_dir():
        raise ParseError(str(folder), f"is not a folder; make it with: connectorctl init {folder}")
    store = Store()
    DirectorySource(folder, store, system_namespace=settings.system_namespace).load_once()
    return store


def entries(arguments: Arguments, folder: Path, settings: Settings, now: float) -> list[Entry]:
    """What a kubeconfig for `arguments.keys` is made of."""
    if arguments.rotating and len(arguments.keys) > 1:
        raise ParseError("--rotating", "takes one Connector of a folder: each has a token of its own")
    store = load(folder, settings)
    connectors = [_find(store, key, folder) for key in arguments.keys]
    ca = read_proxy_ca(arguments.confdir)
    return [
        Entry(
            key=each.key,
            address=each.address,
            proxy=arguments.proxy or DEFAULT_PROXY,
            ca=ca,
            token=_mint(arguments, each.key, settings, now),
        )
        for each in connectors
    ]


def token(arguments: Arguments, folder: Path, settings: Settings, now: float) -> str:
    """A token for the one Connector of `arguments`."""
    (key,) = arguments.keys
    _find(load(folder, settings), key, folder)
    return _mint(arguments, key, settings, now)


def _find(store: Store, key: ObjectKey, folder: Path) -> Connector:
    match store.connector(key):
        case None:
            raise ParseError(
                "", f'connectors.connectors.alauda.io "{key.name}" not found in namespace "{key.namespace}" of {folder}'
            )
        case Rejected() as rejected:
            raise ParseError(f"Connector {key}", rejected.message)
        case found:
            return found


def _mint(arguments: Arguments, key: ObjectKey, settings: Settings, now: float) -> str:
    signing = SigningKey.load_or_create(confdir_or_default(arguments.confdir))
    return signing.mint(key, ttl=arguments.ttl, now=now, audience=settings.audience)
