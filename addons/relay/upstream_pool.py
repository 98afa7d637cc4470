"""Connections to targets that have nobody to serve, kept a while for whoever asks the same Connector next.

A TLS handshake costs both sides more than a request. One is kept only after an exchange that ended clean, it is looked
at before it is given away, and it serves only what it was made for: see `Upstream.serves`.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.objects.models import Target
from connector_store.trust import TrustStore

MAX_IDLE: Final = 256
"""Connections that are kept at once; one costs some 60 kB and a file descriptor."""
MAX_IDLE_PER_CONNECTOR: Final = 32
"""Of them, those of one Connector."""
MAX_LIFETIME: Final = 300.0
"""Seconds from its handshake that a connection is given to others: a name that leads elsewhere, a certificate that was
replaced and a target with several servers are seen by then."""

DiscardReason = Literal["idle", "old", "full", "changed", "ended", "surplus", "draining"]
"""Why one is dropped: nobody came in time, `MAX_AGE`, one of the bounds, the Connector is gone or has changed, the
target has ended it, the target said what was not asked for, the proxy ends."""
DISCARD_REASONS: Final[tuple[str, ...]] = get_args(DiscardReason)


class TargetLookup(Protocol):
    def get(self, key: ObjectKey) -> Resolution: ...


class UpstreamPool:
    """See the module's text. `seconds` is how long one may have nothing to do, with its client or here; 0: none is
    kept."""

    def __init__(
        self,
        store: TargetLookup,
        trust: TrustStore,
        *,
        keepalive_expiry: float,
        max_idle: int = MAX_IDLE,
        max_idle_per_connector: int = MAX_IDLE_PER_CONNECTOR,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reuse_count = 0
        """Connections that were given to another client."""
        self.discard_counts = dict.fromkeys(DISCARD_REASONS, 0)
        """Connections that were kept no longer, or could not be."""
        self.retry_count = 0
        """Requests that were sent once more, because one failed before it answered."""
        self._store = store
        self._trust = trust
        self._keepalive_expiry = keepalive_expiry
        self._max_idle = max_idle
        self._max_idle_per_connector = max_idle_per_connector
        self._now = now
        # Both in the order in which they came.
        self._expires_at: dict[UpstreamConnection, float] = {}
        self._by_connector: dict[ObjectKey, dict[UpstreamConnection, None]] = {}
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._expires_at)

    def release(self, connection: UpstreamConnection) -> None:
        """Keep it if it may serve another exchange, else close it; it is no longer its client's either way."""
        if connection.idle_since is None or not self._keepalive_expiry:
            connection.close()
            return
        try:
            self._add(connection)
        except BaseException:
            # It is nobody's any more.
            if connection in self._expires_at:
                self._remove(connection)
            connection.close()
            raise

    def _add(self, connection: UpstreamConnection) -> None:
        connection.detach(lambda ended: self._discard(connection, "ended" if ended else "surplus"))
        self._expires_at[connection] = self._expiry_of(connection)
        self._by_connector.setdefault(connection.key, {})[connection] = None
        # What it says meanwhile is read, and tells; whoever takes it looks again.
        reason = self._unusable_reason(connection) or (None if self._is_current(connection) else "changed")
        if reason is not None:
            self._discard(connection, reason)
            return
        siblings = self._by_connector[connection.key]
        if len(siblings) > self._max_idle_per_connector:
            self._discard(next(iter(siblings)), "full")
        elif len(self._expires_at) > self._max_idle:
            self._discard(next(iter(self._expires_at)), "full")
        self._schedule_expiry(self._expires_at[connection])

    def acquire(self, target: Target, trust: TrustStore) -> UpstreamConnection | None:
        """The one that was used last among those that are good for `target` at this moment; join it to its client."""
        for connection in reversed(tuple(self._by_connector.get(target.key, ()))):
            reason = self._unusable_reason(connection) or (None if connection.matches(target, trust) else "changed")
            if reason is None and not connection.has_unread_input:
                reason = "surplus"
            if reason is None:
                self._remove(connection)
                self.reuse_count += 1
                return connection
            self._discard(connection, reason)
        return None

    def on_connectors_changed(self, keys: frozenset[ObjectKey]) -> None:
        """A subscriber of the store: drop what a Connector does not lead to any more."""
        for key in keys & self._by_connector.keys():
            for connection in tuple(self._by_connector[key]):
                reason = self._unusable_reason(connection) or (None if self._is_current(connection) else "changed")
                if reason is not None:
                    self._discard(connection, reason)

    def close(self) -> None:
        """Drop all, and keep none from now on."""
        self._closed = True
        for connection in tuple(self._expires_at):
            self._discard(connection, "draining")
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None

    def _is_current(self, connection: UpstreamConnection) -> bool:
        """True if it leads to what its Connector leads to now."""
        target = self._store.get(connection.key)
        return isinstance(target, Target) and connection.matches(target, self._trust)

    def _unusable_reason(self, connection: UpstreamConnection) -> DiscardReason | None:
        """Why it is good for nobody; None if it is."""
        if self._closed:
            return "draining"
        if not connection.is_idle:
            return "ended" if connection.at_eof else "surplus"
        if self._expires_at[connection] <= self._now():
            return "old" if connection.created_at + MAX_LIFETIME <= self._now() else "idle"
        return None

    def _expiry_of(self, connection: UpstreamConnection) -> float:
        """When it is not given to anybody any more."""
        idle_since = connection.idle_since if connection.idle_since is not None else connection.created_at
        return min(idle_since + self._keepalive_expiry, connection.created_at + MAX_LIFETIME)

    def _discard(self, connection: UpstreamConnection, reason: DiscardReason) -> None:
        self._remove(connection)
        self.discard_counts[reason] += 1
        connection.close()

    def _remove(self, connection: UpstreamConnection) -> None:
        del self._expires_at[connection]
        siblings = self._by_connector[connection.key]
        del siblings[connection]
        if not siblings:
            del self._by_connector[connection.key]

    def _schedule_expiry(self, expires_at: float) -> None:
        """Look again at `end`, unless that is done earlier."""
        loop = asyncio.get_running_loop()
        due = loop.time() + expires_at - self._now()
        if self._expiry_timer is not None:
            if self._expiry_timer.when() <= due:
                return
            self._expiry_timer.cancel()
        self._expiry_timer = loop.call_at(due, self._discard_expired)

    def _discard_expired(self) -> None:
        self._expiry_timer = None
        now = self._now()
        for connection, expires_at in tuple(self._expires_at.items()):
            if expires_at <= now:
                self._discard(connection, "old" if connection.created_at + MAX_LIFETIME <= now else "idle")
        if self._expires_at:
            self._schedule_expiry(min(self._expires_at.values()))
