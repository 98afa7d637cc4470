"""What a CONNECT was granted: for which Connector and authority a tunnel is open, and who its caller is."""

from collections.abc import Callable
from dataclasses import dataclass, field

from connector_store.domain.access import Identity
from connector_store.domain.names import ObjectKey


@dataclass(slots=True, kw_only=True)
class Grant:
    """`token` is None where it comes inside, with each request; the caller is known only then."""

    key: ObjectKey
    authority: str
    host: str
    source_ip: str
    token: str | None = field(repr=False)
    identity: Identity | None = None
    give_back: Callable[[], None] | None = None
    """Ends counting it against the caller's limit; None: it is not counted yet."""
