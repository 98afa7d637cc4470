"""What all client connections share; made once, by `lifecycle`."""

from collections.abc import Callable
from dataclasses import dataclass

from addons.access.limits import Limits
from addons.access.live import Streams
from addons.net.certificates import Certificates
from addons.net.resolver import Resolver
from addons.records.recorder import Recorder
from addons.relay.pages import Pages
from connector_store.domain.access import Access
from connector_store.domain.address_policy import AddressPolicy
from connector_store.store import Store
from connector_store.trust import TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds; the options of the same names."""

    client: float
    connect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The parts, and the limits that a connection keeps."""

    store: Store
    access: Access
    pages: Pages
    resolver: Resolver
    policy: AddressPolicy
    trust: TrustStore
    certificates: Certificates
    recorder: Recorder
    streams: Streams
    limits: Limits
    times: Times
    max_header: int
    watched: bool
    """Flows are made of inner requests."""
    keep_body: int
    """Bytes of each body that a flow keeps."""
    ready: Callable[[], bool]
    """False until everything that a decision needs is there."""
