"""Folder source: Connectors of a folder of manifests, and tokens that are signed with the proxy's key."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.objects.models import Connector, InvalidConnector
from connector_store.folder.folder_watch import FolderWatch
from connector_store.folder.signing_key import SigningKey
from connector_store.store import Store
from connectorctl.description import ConnectorDetails
from connectorctl.folders import missing_folder_error
from connectorctl.inventory import Inventory, not_found_error
from connectorctl.option_values import CallerOptions
from connectorctl.proxy_ca import confdir_or_default, read_proxy_ca
from connectorctl.proxy_program import DEFAULT_LISTEN

DEFAULT_PROXY: Final = f"http://{DEFAULT_LISTEN}"


def load_store(folder: Path, settings: Settings) -> Store:
    """Load what a proxy on this folder would have. Raises ParseError if the folder does not exist."""
    if folder.is_file():
        raise ParseError("", f'"{folder}" is a file; name its folder, {folder.parent}')
    if not folder.is_dir():
        raise missing_folder_error(folder)
    store = Store()
    store.access.system_namespace = settings.system_namespace
    FolderWatch(folder, store, system_namespace=settings.system_namespace).load_once()
    return store


def load_details(folder: Path, key: ObjectKey, settings: Settings) -> ConnectorDetails:
    """Load what the folder has about one Connector."""
    store = load_store(folder, settings)
    subjects = [str(subject) for subject in store.bindings.subjects(settings.access, key)]
    if store.bindings.is_empty:
        subjects = ["each holder of a token that is signed with the proxy's key"]
    return ConnectorDetails(
        inventory=Inventory(store=store),
        callers=subjects,
        kubeconfig_command=f"connectorctl kubeconfig {key} --source {shlex.quote(str(folder))}",
    )


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
    connectors = [_get_connector(store, key) for key in keys]
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
    _get_connector(load_store(folder, settings), key)
    return _sign_token(key, caller_options, settings, now)


def _get_connector(store: Store, key: ObjectKey) -> Connector:
    match store.connector(key):
        case None:
            raise not_found_error(store, key)
        case InvalidConnector() as rejected:
            raise ParseError(f"Connector {key}", rejected.message)
        case connector:
            return connector


def _sign_token(key: ObjectKey, caller_options: CallerOptions, settings: Settings, now: float) -> str:
    signing_key = SigningKey.load_or_create(confdir_or_default(caller_options.confdir))
    return signing_key.issue(
        key, ttl=caller_options.ttl, now=now, audience=settings.audience, caller=caller_options.as_caller
    )
