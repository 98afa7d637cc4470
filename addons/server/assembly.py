"""Assembly of the proxy's parts, for every source of Connectors."""

import io
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mitmproxy import ctx
from mitmproxy.certs import CertStore

from addons.access.caller_checks import AccessContext
from addons.access.entitlements import Entitlements
from addons.access.live_connections import LiveConnections
from addons.access.target_tokens import TargetTokens
from addons.access.unauthenticated import MAX_WAITING, UnauthenticatedLimit
from addons.net.certificates import Certificates
from addons.net.connector_hosts import ConnectorHosts
from addons.net.sockets import CLOSE_TIMEOUTS
from addons.records.audit import AuditLog
from addons.records.audit_writer import AuditWriter
from addons.records.metrics import Metrics
from addons.records.recent_use import RecentUse
from addons.records.record import Recorders
from addons.relay.pages import Pages
from addons.relay.shared_context import SharedContext
from addons.relay.upstream_pool import UpstreamPool
from addons.server import descriptors
from addons.server.callers import with_issuers
from addons.server.flow_setting import shows_flows
from addons.server.options import Config
from addons.server.via_key import ViaKey
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access
from connector_store.domain.config.settings import Settings
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.decide import ProxyLimits
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.objects.models import Target
from connector_store.oidc.issuer_access import UseAuthorizer
from connector_store.resolver import Resolver
from connector_store.store import Store
from connector_store.target_client import TargetClient
from connector_store.token_manager import TokenManager
from connector_store.trust import TrustStore

CA: Final = "the proxy's CA"
"""Source that the store waits for if the CA is in a Secret."""

BackgroundWork = tuple[str, Callable[[], Coroutine[Any, Any, Any]]]
"""Name for the log, and a coroutine function that runs until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Metrics and audit log, created once before the other parts."""

    metrics: Metrics
    recorders: Recorders
    is_audit_log_full: Callable[[], bool] | None
    """Return True while the audit log cannot accept records. None if lost lines are only counted."""
    recent_use: RecentUse | None
    """Recent uses and refusals, for the sessions page. None without that page."""
    close: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """CA of the proxy. The functions return None while the CA is not available."""

    get_signer: Callable[[], CertStore | None]
    """Return the CA that signs certificates for clients."""
    get_published: Callable[[], bytes | None]
    """Return the PEM of the CA certificates that clients must trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyParts:
    """Parts that `Lifecycle` serves clients with, and the work that it keeps running."""

    context: SharedContext
    settings: Settings
    not_ready_reason: Callable[[], str | None]
    work: tuple[BackgroundWork, ...]
    follow: Callable[[Settings], None]
    """Apply the live settings to the parts."""


def create_records(config: Config) -> Records:
    """Create metrics and audit log. Audit lines go to stdout, except in mitmproxy's console UI, which draws there."""
    is_console = type(ctx.master).__name__ == "ConsoleMaster"
    writer = AuditWriter(io.StringIO if is_console else lambda: sys.stdout)
    is_text = config.audit == "text" or (config.audit == "auto" and not is_console and sys.stdout.isatty())
    audit = AuditLog(
        writer.write,
        now=time.time,
        commands=config.audit_commands,
        schedule_flush=writer.schedule_flush,
        line_format="text" if is_text else "json",
    )
    writer.flush = audit.flush
    metrics = Metrics(lost_line_count=lambda: audit.dropped_count + writer.lost_count)
    is_audit_log_full = (lambda: audit.is_full or writer.is_failing) if config.audit_refuses else None
    recent_use = RecentUse() if config.sessions is not None else None
    return Records(
        metrics=metrics,
        recorders=(audit.record, metrics.record, *((recent_use.record,) if recent_use is not None else ())),
        recent_use=recent_use,
        is_audit_log_full=is_audit_log_full,
        close=writer.close,
    )


def limit_unauthenticated(config: Config, metrics: Metrics) -> UnauthenticatedLimit:
    """Create the limit on unauthenticated connections.

    They get at most half of the connections that file descriptors allow, and one address gets a quarter of that.
    """
    max_open = descriptors.max_connections(descriptors.raise_limit())
    max_unauthenticated = max(1, min(config.max_unauthenticated, max_open // 2))
    limit = UnauthenticatedLimit(
        max_unauthenticated=max_unauthenticated,
        max_unauthenticated_per_address=max(1, min(config.max_unauthenticated_per_address, max_unauthenticated // 4)),
        max_open=max_open,
        max_wait=config.timeouts.client,
        max_waiting=min(MAX_WAITING, max_open // 4),
    )
    metrics.add_gauge(
        "connector_unauthenticated_connections",
        "Connections without an authenticated caller",
        lambda: float(limit.count),
    )
    metrics.add_gauge(
        "connector_waiting_connections",
        "Connections that wait unread because of the limits on unauthenticated ones",
        lambda: float(limit.waiting_count),
    )
    metrics.add_counter(
        "connector_refused_connections",
        "Connections that were closed before they were read",
        lambda: limit.refusal_count,
    )
    return limit


def assemble(
    config: Config,
    settings: Settings,
    records: Records,
    *,
    store: Store,
    access: Access,
    rights: UseAuthorizer,
    authority: CertificateAuthority,
    proxy_url: Callable[[Target, str], Awaitable[str]],
    work: Iterable[BackgroundWork],
    own_addresses: Collection[str] = (),
    own_issuers: Collection[str] = (),
    now: Callable[[], float] = time.time,
) -> ProxyParts:
    """Assemble the parts. `proxy_url` returns the proxy's URL for a Connector, given a request's Host (see `Pages`).

    `own_issuers` are the issuers of the cluster's own tokens. `now` is in Unix seconds, for the times of tokens.
    """
    if settings.ca_file is not None:
        store.set_ca_file(_read_ca(Path(settings.ca_file)))
    access, follow_issuers = with_issuers(config, settings, access, rights, own_issuers, now)
    names = OwnNames(hosts=_own_hosts(config, settings), cluster_domain=settings.cluster_domain)
    certificates = Certificates(authority.get_signer, names, is_connector_host=ConnectorHosts(store).__contains__)
    store.access.system_namespace = settings.system_namespace
    store.access.exempt_group = settings.lock_exempt_group or ""
    entitlements = Entitlements(store.access)
    live_connections = LiveConnections(
        store, access, recheck=config.recheck, cut_expired=config.cut_expired, entitlements=entitlements, now=now
    )
    store.subscribe(live_connections.on_connectors_changed)
    records.metrics.add_gauge(
        "connector_oldest_access_check_age_seconds",
        "Age of the oldest access check of a live connection",
        lambda: live_connections.oldest_check_age,
    )
    records.metrics.add_gauge("connector_recheck_seconds", "The option connector_recheck", lambda: config.recheck)

    def not_ready_reason() -> str | None:
        if store.unsynced_sources - {CA}:
            return "not all Connectors are read yet"
        if store.unsynced_sources:
            return "the proxy's CA is not there yet"
        stale = store.not_served.get(None)
        return stale.message if stale is not None else None

    def create_policy(settings: Settings) -> AddressPolicy:
        return AddressPolicy.from_settings(
            allow=settings.targets_allow,
            deny=settings.targets_deny,
            in_cluster=settings.in_cluster,
            own_addresses=own_addresses,
        )

    access_policy = ProxyLimits(addresses=create_policy(settings), max_connections=config.max_connections)
    resolver, trust = Resolver(), TrustStore()
    token_client = TargetClient(trust, access_policy.addresses, resolver, user_agent="connectors-proxy")
    target_tokens = TargetTokens(store.get, _create_token_manager(config, records.metrics, token_client))
    store.subscribe(target_tokens.on_connectors_changed)
    access_context = AccessContext(
        unsynced=store.unsynced_sources,
        access=access,
        target_tokens=target_tokens,
        policy=access_policy,
        entitlements=entitlements,
        is_audit_log_full=records.is_audit_log_full,
    )
    cache_stats = access_context.cache_stats
    records.metrics.add_counter(
        "connector_access_cache_hits", "Access decisions with a cached caller", lambda: cache_stats.hit_count
    )
    records.metrics.set_unavailable_checks(lambda: access_context.unavailable.counts)
    pool = _create_pool(config, records.metrics, store, trust)
    _add_metrics(records.metrics, store, certificates)
    context = SharedContext(
        store=store,
        access_context=access_context,
        pages=Pages(access_context=access_context, ca=authority.get_published, proxy_url=proxy_url),
        resolver=resolver,
        trust=trust,
        upstream_pool=pool,
        certificates=certificates,
        names=names,
        recorders=records.recorders,
        live_connections=live_connections,
        timeouts=config.timeouts,
        close_timeouts=CLOSE_TIMEOUTS,
        max_header=config.max_header,
        expiry_warning=settings.expiry_warning,
        forwarded_for=config.forwarded_for,
        shows_flows=shows_flows(config.flows),
        keep_body=config.keep_body,
        keep_secrets=config.keep_secrets,
        get_via_key=ViaKey(authority.get_signer),
    )

    def follow(settings: Settings) -> None:
        addresses = create_policy(settings)
        if addresses != access_context.policy.addresses:
            access_context.policy = replace(access_context.policy, addresses=addresses)
            token_client.policy = addresses
            pool.discard_denied(addresses.allows)
            live_connections.close_denied(addresses.allows)
        context.expiry_warning = settings.expiry_warning

    return ProxyParts(
        context=context,
        settings=settings,
        follow=follow,
        not_ready_reason=not_ready_reason,
        work=(
            *work,
            ("recheck of live connections", live_connections.run),
            *([("issuers", follow_issuers)] if follow_issuers else []),
        ),
    )


def _create_pool(config: Config, metrics: Metrics, store: Store, trust: TrustStore) -> UpstreamPool:
    max_idle = descriptors.max_idle_upstreams(descriptors.raise_limit())
    pool = UpstreamPool(store, trust, keepalive_expiry=config.keep_target, max_idle=max_idle)
    store.subscribe(pool.on_connectors_changed)
    metrics.set_pool_discards(lambda: pool.discard_counts)
    metrics.add_gauge("connector_kept_connections", "Idle connections to targets", lambda: float(len(pool)))
    metrics.add_counter(
        "connector_kept_connections_taken", "Idle connections to targets that were used again", lambda: pool.reuse_count
    )
    metrics.add_counter(
        "connector_requests_sent_again", "Requests that were sent to a target a second time", lambda: pool.retry_count
    )
    return pool


def _create_token_manager(config: Config, metrics: Metrics, client: TargetClient) -> TokenManager:
    def count_token_request(key: ObjectKey, result: str) -> None:
        metrics.token_requests[key, result] += 1

    return TokenManager(client, timeout=config.timeouts.connect, on_token_request=count_token_request)


def mitmproxy_authority() -> CertificateAuthority:
    """Return mitmproxy's own CA, from its confdir."""

    def get_signer() -> CertStore | None:
        signer: CertStore | None = ctx.master.addons.get("tlsconfig").certstore
        return signer

    def get_published() -> bytes | None:
        signer = get_signer()
        return signer.default_ca.to_pem() if signer is not None else None

    return CertificateAuthority(get_signer=get_signer, get_published=get_published)


def _own_hosts(config: Config, settings: Settings) -> tuple[str, ...]:
    """Return the names and addresses in the proxy's own certificate."""
    hosts = ["localhost", "127.0.0.1", "::1"]
    if settings.in_cluster and settings.proxy_service is not None:
        short = f"{settings.proxy_service.name}.{settings.proxy_service.namespace}"
        hosts += [short, f"{short}.svc", f"{short}.svc.{settings.cluster_domain}"]
    return tuple(dict.fromkeys((*hosts, *config.names)))


def _add_metrics(metrics: Metrics, store: Store, certificates: Certificates) -> None:
    metrics.set_objects(lambda: store.object_counts, lambda key: store.connector(key) is not None)
    metrics.add_gauge(
        "connector_store_synced",
        "1 when the store has read all Connectors",
        lambda: float(not store.unsynced_sources - {CA}),
    )
    metrics.add_gauge(
        "connector_ca_expiry_timestamp_seconds", "Time at which the CA expires", lambda: certificates.ca_expires_at
    )
    metrics.add_counter(
        "connector_refused_handshakes",
        "TLS handshakes that the proxy refused because of the limit on new certificates",
        lambda: certificates.refusal_count,
    )
    metrics.add_gauge(
        "connector_served_certificate_expiry_timestamp_seconds",
        "Time at which the first certificate that clients get expires",
        lambda: certificates.earliest_expires_at,
    )


def _read_ca(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ParseError("connector_ca_file", f"{path}: {error.strerror}") from error
