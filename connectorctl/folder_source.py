"""Folder source: Connectors of a folder of manifests, and tokens that are signed with the proxy's key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.objects.models import Connector, InvalidConnector
from connector_store.folder.caller_tokens import SigningKey
from connector_store.folder.folder_watch import FolderWatch
from connector_store.store import Store
from connectorctl.option_values import CallerOptions
from connectorctl.proxy_ca import confdir_or_default, read_proxy_ca

DEFAULT_PROXY: Final = "http://127.0.0.1:8080"


def load_store(folder: Path, settings: Settings) -> Store:
    """Load what a proxy on this folder would have. Raises ParseError if the folder does not exist."""
    if folder.is_file():
        raise ParseError(str(folder), f"is a file; name its folder, {folder.parent}")
    if not folder.is_dir():
        raise ParseError(str(folder), f"is not there; make it with: connectorctl init {folder}")
    store = Store()
    FolderWatch(folder, store, system_namespace=settings.system_namespace).load_once()
    return store


def build_entries(
    folder: Path,
    keys: Sequence[ObjectKey],
    caller_options: CallerOptions,
    settings: Settings,
    now: float,
    *,
    proxy: str | None,
) -> list[KubeconfigEntry]:
    """Return the kubeconfig entries of `keys`. `now` is in unix seconds."""
    store = load_store(folder, settings)
    connectors = [_get_connector(store, key, folder) for key in keys]
    ca = read_proxy_ca(caller_options.confdir)
    return [
        KubeconfigEntry(
            key=connector.key,
            address=connector.address,
            proxy=proxy or DEFAULT_PROXY,
            ca=ca,
            token=_sign_token(connector.key, caller_options, settings, now),
        )
        for connector in connectors
    ]


def issue_token(folder: Path, key: ObjectKey, caller_options: CallerOptions, settings: Settings, now: float) -> str:
    """Return a token for one Connector."""
    _get_connector(load_store(folder, settings), key, folder)
    return _sign_token(key, caller_options, settings, now)


def _get_connector(store: Store, key: ObjectKey, folder: Path) -> Connector:
    match store.connector(key):
        case None:
            raise ParseError(
                "", f'connectors.connectors.alauda.io "{key.name}" not found in namespace "{key.namespace}" of {folder}'
            )
        case InvalidConnector() as rejected:
            raise ParseError(f"Connector {key}", rejected.message)
        case connector:
            return connector


def _sign_token(key: ObjectKey, caller_options: CallerOptions, settings: Settings, now: float) -> str:
    signing_key = SigningKey.load_or_create(confdir_or_default(caller_options.confdir))
    return signing_key.issue(key, ttl=caller_options.ttl, now=now, audience=settings.audience)
