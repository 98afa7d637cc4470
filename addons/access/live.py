"""Live exchanges, and what ends them: their Connector is gone or elsewhere, or their caller may no longer use it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import batched
from typing import Final, Protocol

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Granted, Refused
from connector_store.domain.decision.verdict import Resolution
from connector_store.domain.objects.models import Target
from connector_store.domain.permissions.permissions import NotAllowed, RequestAttributes

CONCURRENT: Final = 16
"""Reviews that are asked at once."""
LOOKED_AT: Final = 256
"""Exchanges between which others have no turn: about a millisecond."""


@dataclass(slots=True)
class Live:
    """What a running exchange was admitted with."""

    target: Target
    token: str = field(repr=False)
    granted: Granted
    asked: Callable[[], RequestAttributes]
    """The request, as permissions look at it."""


class Live_Tunnel(Protocol):
    """One client connection with an open tunnel."""

    @property
    def key(self) -> ObjectKey | None:
        """None before it is known."""

    @property
    def live(self) -> Live | None:
        """None while no request runs."""

    def cut(self, reason: str) -> None:
        """End it now."""

    def look(self) -> None:
        """End it if its client has gone: that does not show by itself while nothing is read."""


class Lookup(Protocol):
    def get(self, key: ObjectKey) -> Resolution: ...


class Streams:
    """All open tunnels, by Connector."""

    def __init__(self, store: Lookup, access: Access, *, recheck: float, cut_expired: bool) -> None:
        """`recheck` is in seconds: what a caller loses, they have lost in their streams by then."""
        self._store = store
        self._access = access
        self._recheck = recheck
        self._cut_expired = cut_expired
        self._tunnels: dict[ObjectKey, set[Live_Tunnel]] = {}

    def add(self, tunnel: Live_Tunnel) -> None:
        if tunnel.key is not None:
            self._tunnels.setdefault(tunnel.key, set()).add(tunnel)

    def remove(self, tunnel: Live_Tunnel) -> None:
        if tunnel.key is None:
            return
        tunnels = self._tunnels.get(tunnel.key, set())
        tunnels.discard(tunnel)
        if not tunnels:
            self._tunnels.pop(tunnel.key, None)

    def changed(self, keys: frozenset[ObjectKey]) -> None:
        """A subscriber of the store: cut what runs to a Connector that is gone, unusable, elsewhere or does not lend it
        any more."""
        for key in keys & self._tunnels.keys():
            found = self._store.get(key)
            for tunnel in tuple(self._tunnels.get(key, ())):
                live = tunnel.live
                if live is not None and (why := _gone(found, live)):
                    tunnel.cut(why)

    async def run(self) -> None:
        """Ask again for every live exchange, for ever; half of `recheck` for the wait, half for the answer."""
        while True:
            await asyncio.sleep(self._recheck / 2)
            for tunnels in batched(self._running(), LOOKED_AT):
                for tunnel in tunnels:
                    tunnel.look()
                await asyncio.sleep(0)
            await self.recheck_all()

    async def recheck_all(self) -> None:
        """Ask once for every caller and Connector with something that runs."""
        if self._cut_expired:
            self._cut_all_expired(time.time())
        due: dict[tuple[str, ObjectKey], list[Live_Tunnel]] = {}
        for tunnel in self._running():
            if tunnel.live is not None and tunnel.key is not None:
                due.setdefault((tunnel.live.token, tunnel.key), []).append(tunnel)
        waiting = iter(due.items())

        async def ask() -> None:
            for (token, key), tunnels in waiting:
                await self._recheck_one(token, key, tunnels)
                # An answer that takes no question, as of the proxy's own tokens, would leave nobody else a turn.
                await asyncio.sleep(0)

        await asyncio.gather(*(ask() for _ in range(CONCURRENT)))

    async def _recheck_one(self, token: str, key: ObjectKey, tunnels: Iterable[Live_Tunnel]) -> None:
        live = next((each.live for each in tunnels if each.live is not None), None)
        if live is None:
            return
        answer = await self._access.recheck(token, live.granted.identity, key)
        if isinstance(answer, Refused):
            for tunnel in tunnels:
                if tunnel.live is not None and tunnel.live.token == token:
                    tunnel.cut("its caller may not use the Connector any more")

    def cut_all(self, reason: str) -> None:
        """End every tunnel now."""
        for tunnel in [tunnel for tunnels in self._tunnels.values() for tunnel in tunnels]:
            tunnel.cut(reason)

    def _cut_all_expired(self, now: float) -> None:
        for tunnel in self._running():
            live = tunnel.live
            if live is not None and live.granted.token_expires_at is not None and live.granted.token_expires_at <= now:
                tunnel.cut("its caller's token has expired")

    def _running(self) -> list[Live_Tunnel]:
        return [tunnel for tunnels in self._tunnels.values() for tunnel in tunnels]


def _gone(found: Resolution, live: Live) -> str:
    """Why a Connector would not serve any more what runs; empty if it would."""
    if not isinstance(found, Target) or found.uid != live.target.uid or found.address != live.target.address:
        return "its Connector was deleted, cannot be used any more or has another address"
    if found.impersonation != live.target.impersonation:
        return "its Connector tells the target otherwise now who calls"
    if found.permissions is None or found.permissions == live.target.permissions:
        return ""
    return (
        "its Connector does not lend it any more"
        if isinstance(found.permissions.evaluate(live.asked()), NotAllowed)
        else ""
    )
