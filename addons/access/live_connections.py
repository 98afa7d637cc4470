"""Live exchanges, and what ends them: their Connector is gone or elsewhere, or their caller may no longer use it."""

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
"""Reviews that are asked at once."""
BATCH_SIZE: Final = 256
"""Exchanges between which others have no turn: about a millisecond."""


@dataclass(slots=True)
class LiveAccess:
    """What a running exchange was admitted with."""

    target: Target
    token: str = field(repr=False)
    grant: Granted
    attributes: Callable[[], RequestAttributes]
    """The request, as permissions look at it."""


class LiveConnection(Protocol):
    """One client connection with an open tunnel."""

    @property
    def key(self) -> ObjectKey | None:
        """None before it is known."""

    @property
    def live_access(self) -> LiveAccess | None:
        """None while no request runs."""

    def close(self, reason: str) -> None:
        """End it now."""

    def close_if_client_gone(self) -> None:
        """End it if its client has gone: that does not show by itself while nothing is read."""


class TargetStore(Protocol):
    def get(self, key: ObjectKey) -> Resolution: ...


class LiveConnections:
    """All open tunnels, by Connector."""

    def __init__(self, store: TargetStore, access: Access, *, recheck: float, cut_expired: bool) -> None:
        """`recheck` is in seconds: what a caller loses, they have lost in their streams by then."""
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
        """A subscriber of the store: cut what runs to a Connector that is gone, unusable, elsewhere or does not lend it
        any more."""
        for key in keys & self._by_connector.keys():
            resolution = self._store.get(key)
            for connection in tuple(self._by_connector.get(key, ())):
                access = connection.live_access
                if access is not None and (reason := _close_reason(resolution, access)):
                    connection.close(reason)

    async def run(self) -> None:
        """Ask again for every live exchange, for ever; half of `recheck` for the wait, half for the answer."""
        while True:
            await asyncio.sleep(self._recheck / 2)
            for batch in batched(self._all(), BATCH_SIZE):
                for connection in batch:
                    connection.close_if_client_gone()
                await asyncio.sleep(0)
            await self.recheck_all()

    async def recheck_all(self) -> None:
        """Ask once for every caller and Connector with something that runs."""
        if self._cut_expired:
            self._close_expired(time.time())
        due: dict[tuple[str, ObjectKey], list[LiveConnection]] = {}
        for connection in self._all():
            if connection.live_access is not None and connection.key is not None:
                due.setdefault((connection.live_access.token, connection.key), []).append(connection)
        pending = iter(due.items())

        async def recheck_pending() -> None:
            for (token, key), tunnels in pending:
                await self._recheck_one(token, key, tunnels)
                # An answer that takes no question, as of the proxy's own tokens, would leave nobody else a turn.
                await asyncio.sleep(0)

        await asyncio.gather(*(recheck_pending() for _ in range(MAX_CONCURRENT_REVIEWS)))

    async def _recheck_one(self, token: str, key: ObjectKey, connections: Iterable[LiveConnection]) -> None:
        access = next((each.live_access for each in connections if each.live_access is not None), None)
        if access is None:
            return
        answer = await self._access.recheck(token, access.grant.identity, key)
        if isinstance(answer, Refused):
            for connection in connections:
                if connection.live_access is not None and connection.live_access.token == token:
                    connection.close("its caller may not use the Connector any more")

    def close_all(self, reason: str) -> None:
        """End every tunnel now."""
        for connection in [connection for tunnels in self._by_connector.values() for connection in tunnels]:
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
        return [tunnel for tunnels in self._by_connector.values() for tunnel in tunnels]


def _close_reason(resolution: Resolution, access: LiveAccess) -> str:
    """Why a Connector would not serve any more what runs; empty if it would."""
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
