"""Objects and limits shared by all client connections.

`server/assembly` creates them. In a cluster, it creates them again when the API server has been found.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from addons.access.caller_checks import AccessContext
from addons.access.live_connections import LiveConnections
from addons.net.certificates import Certificates
from addons.net.sockets import CloseTimeouts
from addons.records.record import Recorders
from addons.relay.pages import Pages
from addons.relay.upstream_pool import UpstreamPool
from connector_store.cache import ExpiringCache
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.resolver import Resolver
from connector_store.store import Store
from connector_store.token_bucket import TokenBucket
from connector_store.trust import TrustStore

MAX_RECENT_WARNINGS: Final = 4096
STRANGER_FLOW_RATE: Final = 5.0
STRANGER_FLOW_BURST: Final = 50.0
"""Flows of refused requests of unauthenticated clients per second, on average and in a burst. A UI keeps all flows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Timeouts in seconds: the options `connector_…_timeout`, which `server/options` reads."""

    client: float
    connect: float


@dataclass(slots=True, kw_only=True)
class SharedContext:
    """Services and limits for the stages of a client connection.

    `expiry_warning` is replaced when the settings change. The rest stays.
    """

    access_context: AccessContext
    store: Store
    pages: Pages
    resolver: Resolver
    trust: TrustStore
    upstream_pool: UpstreamPool
    certificates: Certificates
    names: OwnNames
    recorders: Recorders
    live_connections: LiveConnections
    timeouts: Timeouts
    close_timeouts: CloseTimeouts
    max_header: int
    """Maximum number of bytes of a head."""
    expiry_warning: float
    """Seconds before the expiry of a credential in which responses carry a warning."""
    recent_warnings: ExpiringCache[tuple[str, ObjectKey], bool] = field(
        default_factory=lambda: ExpiringCache(MAX_RECENT_WARNINGS)
    )
    """User names and Connectors with a recent warning about the expiry of the credential."""
    forwarded_for: bool
    """True if targets get the address of the client in X-Forwarded-For."""
    shows_flows: bool
    """True if requests to targets are shown as flows."""
    keep_body: int
    """Maximum number of bytes of each body in a flow."""
    keep_secrets: bool
    """True if flows keep the bodies of Secrets and of issued tokens."""
    stranger_flows: TokenBucket = field(
        default_factory=lambda: TokenBucket(rate=STRANGER_FLOW_RATE, burst=STRANGER_FLOW_BURST)
    )
    """Limit for flows of refused requests of unauthenticated clients."""
    get_via_key: Callable[[], bytes]
    """Return the secret with which all proxies that share a CA recognize each other's Via."""
