"""Parts of a proxy whose Connectors come from a folder of manifests, without a cluster."""

import os
import time
from pathlib import Path

from addons.server import assembly
from addons.server.options import Config
from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.settings import Settings, parse_settings
from connector_store.folder.caller_tokens import BindingAuthorizer, TokenAccess
from connector_store.folder.folder_watch import SOURCE_NAME, FolderWatch
from connector_store.folder.signing_key import SigningKey
from connector_store.store import Store


def create_parts(config: Config, folder: Path, records: assembly.Records) -> assembly.ProxyParts:
    """Create the parts. Raises ParseError if the folder cannot be read or a setting is invalid."""
    if not folder.is_dir():
        raise ParseError("connector_source", f"{folder} is not a folder; make it with: connectorctl init {folder}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ParseError(
            "connector_source", f"{folder} cannot be read; give the proxy's user the right: chmod u+rx {folder}"
        )
    settings = parse_settings(explicit=config.explicit, environ=os.environ, config_map={}, in_cluster=False)
    store = Store(expected=[SOURCE_NAME])
    key = SigningKey.load_or_create(config.confdir)
    rights = BindingAuthorizer(store, settings.access)
    source = FolderWatch(folder, store, system_namespace=settings.system_namespace)
    return assembly.assemble(
        config,
        settings,
        records,
        store=store,
        access=TokenAccess(
            key.public_key,
            audience=settings.audience,
            recheck=config.recheck,
            now=time.time,
            may_use=rights.allows_named,
        ),
        rights=rights,
        authority=assembly.mitmproxy_authority(),
        proxy_url=lambda _, host: _proxy_url(settings, host),
        work=[("folder", source.run)],
    )


async def _proxy_url(settings: Settings, host: str) -> str:
    return f"{'https' if settings.proxy_tls else 'http'}://{host}"
