"""How the parts of the proxy are joined, whatever its source is."""

import io
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mitmproxy import ctx
from mitmproxy.certs import CertStore

from addons.access.checks import Checks
from addons.access.lending import Lending
from addons.access.live import Streams
from addons.access.unauthenticated import Unauthenticated
from addons.net.certificates import Certificates
from addons.net.hosts import Hosts
from addons.net.resolver import Resolver
from addons.net.sockets import FAREWELL
from addons.records.audit import AuditLog
from addons.records.metrics import Metrics
from addons.records.output import Output
from addons.records.record import Recorders
from addons.relay.kept import UpstreamPool
from addons.relay.pages import Pages
from addons.relay.shared import SharedContext
from addons.server import descriptors
from addons.server.callers import with_issuers
from addons.server.options import Config
from addons.server.watching import is_watched
from connector_store.domain.base.errors import ParseError
from connector_store.domain.callers.access import Access
from connector_store.domain.config.settings import Settings
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.verdict import AccessPolicy
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.objects.models import Target
from connector_store.minter import TokenManager
from connector_store.oidc.access import UseAuthorizer
from connector_store.store import Store
from connector_store.target_client import TargetClient
from connector_store.trust import TrustStore

CA: Final = "the proxy's CA"
"""What the store waits for, as for a source, where the CA comes from a Secret."""

Work = tuple[str, Callable[[], Coroutine[Any, Any, Any]]]
"""A name for the log, and what runs until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Where everything is counted and written; made once, before the other parts."""

    metrics: Metrics
    recorders: Recorders
    full: Callable[[], bool] | None
    """True while nothing may begin, because it would not be written down; None where that is only counted."""
    close: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The CA: what signs certificates for clients, and the PEM of what they shall trust; None while there is none."""

    signer: Callable[[], CertStore | None]
    published: Callable[[], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What `lifecycle` serves with, and what it keeps running meanwhile."""

    service: SharedContext
    settings: Settings
    not_ready_reason: Callable[[], str | None]
    work: tuple[Work, ...]


def make_records(config: Config) -> Records:
    """Audit lines go to stdout; in the console's user interface, which draws there, to nobody."""
    drawn = type(ctx.master).__name__ == "ConsoleMaster"
    output = Output(io.StringIO if drawn else lambda: sys.stdout)
    plain = config.audit == "text" or (config.audit == "auto" and not drawn and sys.stdout.isatty())
    audit = AuditLog(
        output.write,
        now=time.time,
        commands=config.audit_commands,
        wake=output.wake,
        form="text" if plain else "json",
    )
    output.flush = audit.flush
    metrics = Metrics(audit_lost=lambda: audit.dropped + output.lost)
    full = (lambda: audit.full or output.failing) if config.audit_refuses else None
    return Records(metrics=metrics, recorders=(audit.record, metrics.record), full=full, close=output.close)


def bounds(config: Config, metrics: Metrics) -> Unauthenticated:
    """Where descriptors are few, of strangers half of the connections at most, of one address a quarter of that."""
    most_open = descriptors.connections(descriptors.raise_limit())
    most = max(1, min(config.max_unauthenticated, most_open // 2))
    found = Unauthenticated(
        most=most,
        most_of_one=max(1, min(config.max_unauthenticated_per_address, most // 4)),
        most_open=most_open,
    )
    metrics.gauge(
        "connector_unauthenticated_connections", "Connections whose caller is not known yet", lambda: float(found.count)
    )
    metrics.counter("connector_refused_connections", "Connections that were refused unread", lambda: found.refused)
    return found


def join(
    config: Config,
    settings: Settings,
    records: Records,
    *,
    store: Store,
    access: Access,
    rights: UseAuthorizer,
    authority: Authority,
    proxy: Callable[[Target, str], Awaitable[str]],
    work: Iterable[Work],
    own_addresses: Iterable[str] = (),
) -> Parts:
    """`proxy` gives the URL of the proxy for a Connector's callers, asked with a request's Host: see `Pages`."""
    if settings.ca_file is not None:
        store.set_ca_file(_read_ca(Path(settings.ca_file)))
    access, follow_issuers = with_issuers(config, settings, access, rights)
    names = OwnNames(hosts=_hosts(config, settings), cluster_domain=settings.cluster_domain)
    certificates = Certificates(authority.signer, names, known=Hosts(store).__contains__)
    streams = Streams(store, access, recheck=config.recheck, cut_expired=config.cut_expired)
    store.subscribe(streams.changed)

    def not_ready_reason() -> str | None:
        if store.unsynced_sources - {CA}:
            return "not all Connectors are read yet"
        if store.unsynced_sources:
            return "the proxy's CA is not there yet"
        stale = store.not_served.get(None)
        return stale.message if stale is not None else None

    policy = AddressPolicy.from_settings(
        allow=settings.targets_allow,
        deny=settings.targets_deny,
        in_cluster=settings.in_cluster,
        own_addresses=own_addresses,
    )
    rules = AccessPolicy(addresses=policy, max_connections=config.max_connections)
    resolver, trust = Resolver(), TrustStore()
    lending = Lending(store.get, _minter(config, records.metrics, resolver, trust, policy))
    store.subscribe(lending.changed)
    checks = Checks(
        missing=store.unsynced_sources,
        access=access,
        lending=lending,
        rules=rules,
        full=records.full,
    )
    tally = checks.tally
    records.metrics.counter("connector_access_cache_hits", "Checks answered from memory", lambda: tally.remembered)
    kept = _kept(config, records.metrics, store, trust)
    _measure(records.metrics, store, certificates)
    service = SharedContext(
        store=store,
        checks=checks,
        pages=Pages(checks=checks, ca=authority.published, proxy_url=proxy),
        resolver=resolver,
        trust=trust,
        upstream_pool=kept,
        certificates=certificates,
        names=names,
        recorders=records.recorders,
        streams=streams,
        timeouts=config.times,
        farewell=FAREWELL,
        max_header=config.max_header,
        expiry_warning=settings.expiry_warning,
        forwarded_for=config.forwarded_for,
        shows_flows=is_watched(config.flows),
        keep_body=config.keep_body,
    )
    return Parts(
        service=service,
        settings=settings,
        not_ready_reason=not_ready_reason,
        work=(*work, ("recheck of streams", streams.run), *([("issuers", follow_issuers)] if follow_issuers else [])),
    )


def _kept(config: Config, metrics: Metrics, store: Store, trust: TrustStore) -> UpstreamPool:
    most = descriptors.kept(descriptors.raise_limit())
    found = UpstreamPool(store, trust, keepalive_expiry=config.keep_target, max_idle=most)
    store.subscribe(found.on_connectors_changed)
    metrics.kept(lambda: found.discard_counts)
    metrics.gauge("connector_kept_connections", "Connections to targets that serve nobody", lambda: float(len(found)))
    metrics.counter("connector_kept_connections_taken", "Kept connections that served again", lambda: found.reuse_count)
    metrics.counter("connector_requests_sent_again", "Requests sent to a target twice", lambda: found.retry_count)
    return found


def _minter(
    config: Config, metrics: Metrics, resolver: Resolver, trust: TrustStore, policy: AddressPolicy
) -> TokenManager:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return (await resolver.resolve(host, port)).addresses

    def minted(result: str) -> None:
        metrics.token_requests[result] += 1

    client = TargetClient(trust, policy, resolve, user_agent="connectors-proxy")
    return TokenManager(client, timeout=config.times.connect, on_token_request=minted)


def own_authority() -> Authority:
    """mitmproxy's own CA, from its confdir."""

    def signer() -> CertStore | None:
        found: CertStore | None = ctx.master.addons.get("tlsconfig").certstore
        return found

    def published() -> bytes | None:
        found = signer()
        return found.default_ca.to_pem() if found is not None else None

    return Authority(signer=signer, published=published)


def _hosts(config: Config, settings: Settings) -> tuple[str, ...]:
    """Under which TLS at the port may be spoken to the proxy itself."""
    found = ["localhost", "127.0.0.1", "::1"]
    if settings.in_cluster and settings.proxy_service is not None:
        short = f"{settings.proxy_service.name}.{settings.proxy_service.namespace}"
        found += [short, f"{short}.svc", f"{short}.svc.{settings.cluster_domain}"]
    return tuple(dict.fromkeys((*found, *config.names)))


def _measure(metrics: Metrics, store: Store, certificates: Certificates) -> None:
    metrics.objects(lambda: store.object_counts, lambda key: store.connector(key) is not None)
    metrics.gauge(
        "connector_store_synced", "1 when the first list is in", lambda: float(not store.unsynced_sources - {CA})
    )
    metrics.gauge("connector_ca_expiry_timestamp_seconds", "When the CA ends", lambda: certificates.ca_expires)


def _read_ca(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ParseError("connector_ca_file", f"{path}: {error.strerror}") from error
