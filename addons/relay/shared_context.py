"""What all client connections share: made by `server/assembly`, in a cluster anew when its API server was found."""

from dataclasses import dataclass

from addons.access.checks import Checks
from addons.access.live_connections import LiveConnections
from addons.net.certificates import Certificates
from addons.net.resolver import Resolver
from addons.net.sockets import CloseTimeouts
from addons.records.record import Recorders
from addons.relay.pages import Pages
from addons.relay.upstream_pool import UpstreamPool
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.store import Store
from connector_store.trust import TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds; the options `connector_…_timeout`, read by `server/options`."""

    client: float
    connect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedContext:
    """The parts, and the limits that a connection keeps."""

    checks: Checks
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
    expiry_warning: float
    """Seconds before the end of a credential from which callers are told."""
    forwarded_for: bool
    """Targets are told the clients' addresses."""
    shows_flows: bool
    """Flows are made of inner requests."""
    keep_body: int
    """Bytes of each body that a flow keeps."""
