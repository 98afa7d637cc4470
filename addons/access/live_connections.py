"""Live connections, which are closed when their Connector changes or their caller loses the right to use it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import batched
from typing import Final, Protocol

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Granted, Refused
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.objects.models import Target
from connector_store.domain.permissions.permissions import NotAllowed, RequestAttributes

MAX_CONCURRENT_REVIEWS: Final = 16
"""Maximum number of concurrent rechecks."""
BATCH_SIZE: Final = 256
"""Connections that are checked before other tasks can run, which takes about a millisecond."""


@dataclass(slots=True)
class LiveAccess:
    """Access decision on the current request of a live connection."""

    target: Target
    token: str = field(repr=False)
    grant: Granted
    attributes: Callable[[], RequestAttributes]
    """Return the attributes of the request that permissions decide on."""


class LiveConnection(Protocol):
    """One client connection to a Connector."""

    @property
    def key(self) -> ObjectKey | None:
        """Connector of the connection. None before its first request."""

    @property
    def live_access(self) -> LiveAccess | None:
        """Access of the current request. None between requests."""

    def close(self, reason: str) -> None:
        """Close the connection now, and write `reason` to the audit log."""

    def close_if_client_gone(self) -> None:
        """Close the connection if its client has closed it. A paused client does not report its EOF."""


class TargetStore(Protocol):
    """Source of the current targets."""

    def get(self, key: ObjectKey) -> Resolution: ...


class LiveConnections:
    """All live connections, by Connector."""

    def __init__(self, store: TargetStore, access: Access, *, recheck: float, cut_expired: bool) -> None:
        """`recheck` is the number of seconds within which connections of a caller without the right are closed."""
        self._store = store
        self._access = access
        self._recheck = recheck
        self._cut_expired = cut_expired
        self._by_connector: dict[ObjectKey, set[LiveConnection]] = {}

    def add(self, connection: LiveConnection) -> None:
        if connection.key is not None:
            self._by_connector.setdefault(connection.key, set()).add(connection)

    def remove(self, connection: LiveConnection) -> None:
        if connection.key is None:
            return
        siblings = self._by_connector.get(connection.key, set())
        siblings.discard(connection)
        if not siblings:
            self._by_connector.pop(connection.key, None)

    def on_connectors_changed(self, keys: frozenset[ObjectKey]) -> None:
        """Close the connections that their changed Connector no longer allows. Subscribe this method to the store."""
        for key in keys & self._by_connector.keys():
            resolution = self._store.get(key)
            for connection in tuple(self._by_connector.get(key, ())):
                access = connection.live_access
                if access is not None and (reason := _close_reason(resolution, access)):
                    connection.close(reason)

    async def run(self) -> None:
        """Recheck all live connections until cancelled. Half of `recheck` is for the wait, half for the reviews."""
        while True:
            await asyncio.sleep(self._recheck / 2)
            for batch in batched(self._all(), BATCH_SIZE):
                for connection in batch:
                    connection.close_if_client_gone()
                await asyncio.sleep(0)
            await self.recheck_all()

    async def recheck_all(self) -> None:
        """Recheck each caller and Connector that has a live request once."""
        if self._cut_expired:
            self._close_expired(time.time())
        due: dict[tuple[str, ObjectKey], list[LiveConnection]] = {}
        for connection in self._all():
            if connection.live_access is not None and connection.key is not None:
                due.setdefault((connection.live_access.token, connection.key), []).append(connection)
        pending = iter(due.items())

        async def recheck_pending() -> None:
            for (token, key), connections in pending:
                await self._recheck_one(token, key, connections)
                # A recheck without I/O, as for folder tokens, would not let other tasks run.
                await asyncio.sleep(0)

        await asyncio.gather(*(recheck_pending() for _ in range(MAX_CONCURRENT_REVIEWS)))

    async def _recheck_one(self, token: str, key: ObjectKey, connections: Iterable[LiveConnection]) -> None:
        access = next((each.live_access for each in connections if each.live_access is not None), None)
        if access is None:
            return
        result = await self._access.recheck(token, access.grant.identity, key)
        if isinstance(result, Refused):
            for connection in connections:
                if connection.live_access is not None and connection.live_access.token == token:
                    connection.close("its caller may not use the Connector any more")

    def close_all(self, reason: str) -> None:
        """Close all connections now."""
        for connection in self._all():
            connection.close(reason)

    def _close_expired(self, now: float) -> None:
        for connection in self._all():
            access = connection.live_access
            if (
                access is not None
                and access.grant.token_expires_at is not None
                and access.grant.token_expires_at <= now
            ):
                connection.close("its caller's token has expired")

    def _all(self) -> list[LiveConnection]:
        return [connection for siblings in self._by_connector.values() for connection in siblings]


def _close_reason(resolution: Resolution, access: LiveAccess) -> str:
    """Return why the Connector no longer allows the current request, or "" if it does."""
    if (
        not isinstance(resolution, Target)
        or resolution.uid != access.target.uid
        or resolution.address != access.target.address
    ):
        return "its Connector was deleted, cannot be used any more or has another address"
    if resolution.impersonation != access.target.impersonation:
        return "its Connector tells the target otherwise now who calls"
    if resolution.permissions is None or resolution.permissions == access.target.permissions:
        return ""
    return (
        "its Connector does not lend it any more"
        if isinstance(resolution.permissions.evaluate(access.attributes()), NotAllowed)
        else ""
    )
