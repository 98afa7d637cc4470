"""The parts of the proxy and how they are joined; made once, from the options."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mitmproxy import ctx
from mitmproxy.certs import CertStore

from addons import options
from addons.audit import AuditLog
from addons.certificates import Certificates
from addons.landing import Landing
from addons.limits import Limits
from addons.metrics import Metrics
from addons.options import Config
from addons.output import Output
from addons.recorder import Recorder
from addons.service import Service, Times
from addons.streams import Streams
from connector_store.admin import AdminServer
from connector_store.directory import NAME, DirectorySource
from connector_store.domain.errors import ParseError
from connector_store.store import Store
from connector_store.tokens import SigningKey, TokenAccess
from connector_store.trust import AddressPolicy, TrustStore

logger = logging.getLogger(__name__)

DEFAULT_FOLDER: Final = Path("connectors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What `lifecycle` starts and ends."""

    config: Config
    service: Service
    source: Callable[[], Coroutine[Any, Any, None]]
    admin: AdminServer
    landing: Landing
    close: Callable[[], None]

    async def serve_admin(self) -> None:
        """Serve health and metrics until cancelled."""
        if self.config.admin is None:
            return
        host, port = await self.admin.start(*self.config.admin)
        logger.info("health and metrics at http://%s:%d", host, port)
        try:
            await asyncio.Event().wait()
        finally:
            await self.admin.stop()


def make() -> Parts:
    """Read the options and join everything; ParseError if an option cannot be honoured."""
    config = options.read(environ=os.environ, config_map={}, in_cluster=False)
    folder = _folder(config)
    store = Store(expected=[NAME])
    if config.settings.ca_file is not None:
        store.set_ca_file(_read_ca(Path(config.settings.ca_file)))
    key = SigningKey.load_or_create(config.confdir)
    access = TokenAccess(key.public, audience=config.settings.audience, now=time.time)
    source = DirectorySource(folder, store, system_namespace=config.settings.system_namespace)
    return _join(config, store, access, source.run)


def _join(config: Config, store: Store, access: Any, source: Callable[[], Coroutine[Any, Any, None]]) -> Parts:
    settings = config.settings
    output = Output(lambda: sys.stdout)
    audit = AuditLog(output.write, now=time.time, wake=output.wake)
    output.flush = audit.flush
    metrics = Metrics()
    metrics.objects(lambda: store.counts)
    metrics.gauge("connector_store_synced", "1 when the first list is in", lambda: float(store.synced))
    certificates = Certificates(_own_authority)
    metrics.gauge("connector_ca_expiry_seconds", "Seconds until the CA ends", lambda: _left(certificates))
    streams = Streams(store, access, recheck=config.recheck, cut_expired=config.cut_expired)
    store.subscribe(streams.changed)

    def why_not_ready() -> str | None:
        if not store.synced:
            return "the store is not synced"
        return None if certificates.ready else "there is no CA"

    service = Service(
        store=store,
        access=access,
        policy=AddressPolicy.make(
            allow=settings.targets_allow, deny=settings.targets_deny, in_cluster=settings.in_cluster
        ),
        trust=TrustStore(),
        certificates=certificates,
        recorder=Recorder(audit, metrics),
        streams=streams,
        limits=Limits(config.max_connections),
        times=Times(client=config.client_timeout, connect=config.connect_timeout),
        max_header=config.max_header,
        watched=lambda: False,
        ready=lambda: why_not_ready() is None,
    )
    return Parts(
        config=config,
        service=service,
        source=source,
        admin=AdminServer(why_not_ready=why_not_ready, metrics=metrics.render),
        landing=Landing(store=store, access=access, ca=lambda: certificates.ca, proxy=lambda _, host: f"http://{host}"),
        close=output.close,
    )


def _left(certificates: Certificates) -> float | None:
    expires = certificates.ca_expires
    return expires - time.time() if expires is not None else None


def _own_authority() -> CertStore | None:
    """mitmproxy's own CA, from its confdir."""
    found: CertStore | None = ctx.master.addons.get("tlsconfig").certstore
    return found


def _folder(config: Config) -> Path:
    if config.source == "kubernetes" or config.source.startswith("kubernetes:"):
        raise ParseError("connector_source", "kubernetes is not built in yet")
    folder = DEFAULT_FOLDER if config.source == "auto" else Path(config.source)
    if not folder.is_dir():
        raise ParseError("connector_source", f"{folder} is not a folder; make it with: connectorctl init {folder}")
    return folder


def _read_ca(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ParseError("connector_ca_file", f"{path}: {error.strerror}") from error
