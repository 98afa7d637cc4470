"""Pool of idle connections to targets, reused by later requests to the same Connector.

A TLS handshake costs more than a request, so a connection outlives its client. It enters the pool only after a complete
exchange, is checked again before reuse, and serves only what it was opened for (see `UpstreamConnection.matches`).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target, Unusable
from connector_store.trust import TrustStore

MAX_IDLE: Final = 256
"""Maximum number of idle connections. Each costs about 60 kB and a file descriptor."""
MAX_IDLE_PER_CONNECTOR: Final = 32
"""Maximum number of idle connections of one Connector."""
MAX_LIFETIME: Final = 300.0
"""Seconds after its handshake that a connection may be reused, so that DNS and certificate changes take effect."""

DiscardReason = Literal[
    "keepalive_expiry",  # idle for too long
    "max_lifetime",  # open for too long
    "max_idle",  # least recently used when `max_idle` or `max_idle_per_connector` is exceeded
    "address_denied",  # `targets-deny` or `targets-allow` has changed and denies its address
    "connector_changed",  # its Connector was deleted, is unusable, or has a new address, trust or TLS identity
    "closed_by_target",  # EOF, a reset, or a TLS error
    "unsolicited_data",  # input without a request, an incomplete TLS record, or unsent output
    "draining",  # the proxy is shutting down
]
"""Reasons for closing a pooled connection. They are the values of the metric label `reason`."""


class TargetLookup(Protocol):
    def get(self, key: ObjectKey) -> Target | Unusable | None: ...


class UpstreamPool:
    """Idle connections to targets, grouped by Connector. Use it on the event loop only."""

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
        """Create a pool. Connections expire `keepalive_expiry` seconds after their last response. 0 disables reuse."""
        self.reuse_count = 0
        """Connections that were acquired from the pool."""
        self.discard_counts: dict[str, int] = dict.fromkeys(get_args(DiscardReason), 0)
        """Connections that the pool closed, by `DiscardReason`."""
        self.retry_count = 0
        """Requests that were sent a second time because their connection failed before the response."""
        self._store = store
        self._trust = trust
        self._keepalive_expiry = keepalive_expiry
        self._max_idle = max_idle
        self._max_idle_per_connector = max_idle_per_connector
        self._now = now
        # Monotonic seconds. Both are ordered by release, so the most recently used connection is last.
        self._expires_at: dict[UpstreamConnection, float] = {}
        self._by_connector: dict[ObjectKey, dict[UpstreamConnection, None]] = {}
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._expires_at)

    def release(self, connection: UpstreamConnection) -> None:
        """Pool `connection`, or close it if it is not reusable. The caller must not use it afterwards."""
        if connection.idle_since is None or connection.exclusive_token is not None or not self._keepalive_expiry:
            connection.close()
            return
        try:
            self._add(connection)
        except BaseException:
            # The caller no longer owns the connection, so the pool must close it.
            if connection in self._expires_at:
                self._remove(connection)
            connection.close()
            raise

    def _add(self, connection: UpstreamConnection) -> None:
        connection.detach(lambda eof: self._discard(connection, "closed_by_target" if eof else "unsolicited_data"))
        self._expires_at[connection] = self._expiry_of(connection)
        self._by_connector.setdefault(connection.key, {})[connection] = None
        # Unread input needs no check here: the callback above reports it, and `acquire` checks the socket.
        reason = self._unusable_reason(connection) or (None if self._is_current(connection) else "connector_changed")
        if reason is not None:
            self._discard(connection, reason)
            return
        siblings = self._by_connector[connection.key]
        if len(siblings) > self._max_idle_per_connector:
            self._discard(next(iter(siblings)), "max_idle")
        elif len(self._expires_at) > self._max_idle:
            self._discard(next(iter(self._expires_at)), "max_idle")
        self._schedule_expiry(self._expires_at[connection])

    def acquire(self, target: Target, trust: TrustStore) -> UpstreamConnection | None:
        """Remove and return the most recently used connection to `target`, or None. The caller must attach it."""
        for connection in reversed(tuple(self._by_connector.get(target.key, ()))):
            reason = self._unusable_reason(connection) or (
                None if connection.matches(target, trust) else "connector_changed"
            )
            # An EOF that the event loop has not read yet counts as unread input too.
            if reason is None and connection.has_unread_input:
                reason = "unsolicited_data"
            if reason is None:
                self._remove(connection)
                self.reuse_count += 1
                return connection
            self._discard(connection, reason)
        return None

    def on_connectors_changed(self, keys: frozenset[ObjectKey]) -> None:
        """Discard the connections that no longer match their Connector. Subscribe this method to the store."""
        for key in keys & self._by_connector.keys():
            for connection in tuple(self._by_connector[key]):
                reason = self._unusable_reason(connection) or (
                    None if self._is_current(connection) else "connector_changed"
                )
                if reason is not None:
                    self._discard(connection, reason)

    def discard_denied(self, allows: Callable[[str], bool]) -> None:
        """Discard the connections to IP addresses that `allows` does not allow."""
        for connection in tuple(self._expires_at):
            if not allows(connection.ip):
                self._discard(connection, "address_denied")

    def close(self) -> None:
        """Close all connections, and each connection that is released later."""
        self._closed = True
        for connection in tuple(self._expires_at):
            self._discard(connection, "draining")
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None

    def _is_current(self, connection: UpstreamConnection) -> bool:
        """Return True if `connection` matches the current target of its Connector."""
        target = self._store.get(connection.key)
        return isinstance(target, Target) and connection.matches(target, self._trust)

    def _unusable_reason(self, connection: UpstreamConnection) -> DiscardReason | None:
        """Return why `connection` cannot serve any request, or None if it can."""
        if self._closed:
            return "draining"
        if not connection.is_idle:
            return "closed_by_target" if connection.at_eof else "unsolicited_data"
        if self._expires_at[connection] <= self._now():
            return "max_lifetime" if connection.created_at + MAX_LIFETIME <= self._now() else "keepalive_expiry"
        return None

    def _expiry_of(self, connection: UpstreamConnection) -> float:
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
        """Schedule `_discard_expired` for `expires_at` (monotonic seconds), unless it is due earlier."""
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
                too_old = connection.created_at + MAX_LIFETIME <= now
                self._discard(connection, "max_lifetime" if too_old else "keepalive_expiry")
        if self._expires_at:
            self._schedule_expiry(min(self._expires_at.values()))
