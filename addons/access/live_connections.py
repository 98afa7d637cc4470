"""Live connections, which are closed when their Connector changes or their caller loses the right to use it."""

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import batched, count
from typing import Final, Protocol

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Granted, Refused, Unavailable
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.objects.models import Target
from connector_store.domain.permissions.permissions import NotAllowed, RequestAttributes

MAX_CONCURRENT_RECHECKS: Final = 128
"""Maximum number of concurrent rechecks: enough for 10,000 in half of `recheck`, each with two reviews of 50 ms."""
TICKS: Final = 10
"""Number of times in `recheck` at which the proxy looks for due rechecks. Each tick starts those of the next one."""
BATCH_SIZE: Final = 256
"""Connections that are examined before other tasks can run, which takes about a millisecond."""
RECHECK_BATCH_SIZE: Final = 16
"""Rechecks that start before other tasks can run."""


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


_Caller = tuple[str, ObjectKey]
"""Token of a caller, and the Connector that it uses. Its connections share one recheck."""


@dataclass(slots=True)
class _Check:
    """Last access check of a `_Caller`, and the time of the next one, in seconds of the clock."""

    checked_at: float
    due_at: float


class LiveConnections:
    """All live connections, by Connector.

    Each caller of a Connector is rechecked every half of `recheck`. The check may use reviews that are a third of
    `recheck` old, so a revoked right is noticed in time even if a recheck starts a tick late. Callers who connect at
    the same time get different first times, so the rechecks are spread over the interval.
    """

    def __init__(
        self,
        store: TargetStore,
        access: Access,
        *,
        recheck: float,
        cut_expired: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`recheck` is the number of seconds within which connections of a caller without the right are closed."""
        self._store = store
        self._access = access
        self._recheck = recheck
        self._cut_expired = cut_expired
        self._clock = clock
        self._checks: dict[_Caller, _Check] = {}
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_RECHECKS)
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

    @property
    def oldest_check_age(self) -> float:
        """Seconds since the oldest access check of a caller with a live request. 0 if there is no such caller."""
        return max(0.0, self._clock() - min((check.checked_at for check in self._checks.values()), default=math.inf))

    async def run(self) -> None:
        """Recheck all live connections until cancelled."""
        seconds = self._recheck / TICKS
        async with asyncio.TaskGroup() as tasks:
            for tick in count():
                ends_at = self._clock() + seconds
                if tick % (TICKS // 2) == 0:
                    await self._close_gone_clients()
                await self.start_rechecks(tasks, due_before=ends_at, seconds=seconds)
                await asyncio.sleep(max(0.0, ends_at - self._clock()))

    async def start_rechecks(
        self, tasks: asyncio.TaskGroup, *, due_before: float = math.inf, seconds: float = 0.0
    ) -> None:
        """Start the rechecks that are due before `due_before`, spread over `seconds`."""
        started_at = self._clock()
        live = await self._live_callers()
        self._checks = {caller: self._checks.get(caller) or self._first_check(live[caller]) for caller in live}
        due = sorted(
            (caller for caller, check in self._checks.items() if check.due_at < due_before),
            key=lambda caller: self._checks[caller].due_at,
        )
        for number, batch in enumerate(batched(due, RECHECK_BATCH_SIZE)):
            starts_at = started_at + seconds * number * RECHECK_BATCH_SIZE / len(due)
            await asyncio.sleep(max(0.0, starts_at - self._clock()))
            for caller in batch:
                await self._slots.acquire()
                tasks.create_task(self._recheck_caller(caller, live[caller], self._checks[caller]))

    async def _live_callers(self) -> dict[_Caller, LiveAccess]:
        """Return the callers with a live request. With `cut_expired`, close the connections with expired tokens."""
        live: dict[_Caller, LiveAccess] = {}
        now = time.time()
        for batch in batched(self._all(), BATCH_SIZE):
            for connection in batch:
                access, key = connection.live_access, connection.key
                if access is None or key is None:
                    continue
                expires_at = access.grant.token_expires_at
                if self._cut_expired and expires_at is not None and expires_at <= now:
                    connection.close("its caller's token has expired")
                else:
                    live[access.token, key] = access
            await asyncio.sleep(0)
        return live

    def _first_check(self, access: LiveAccess) -> _Check:
        """Return the check that granted `access`, which may have come from a cache."""
        now, valid_until = self._clock(), access.grant.valid_until
        due_at = now + self._recheck * random.uniform(1 / 6, 1 / 2)  # noqa: S311 - for spreading only
        return _Check(min(now, valid_until - self._recheck) if valid_until else now, min(due_at, valid_until or now))

    async def _recheck_caller(self, caller: _Caller, access: LiveAccess, check: _Check) -> None:
        token, key = caller
        started_at = self._clock()
        check.due_at = started_at + self._recheck / 2
        try:
            result = await self._access.recheck(token, access.grant.identity, key)
        finally:
            self._slots.release()
        if not isinstance(result, Unavailable):
            check.checked_at = started_at
        if isinstance(result, Refused):
            for connection in tuple(self._by_connector.get(key, ())):
                if connection.live_access is not None and connection.live_access.token == token:
                    connection.close("its caller may not use the Connector any more")

    async def _close_gone_clients(self) -> None:
        for batch in batched(self._all(), BATCH_SIZE):
            for connection in batch:
                connection.close_if_client_gone()
            await asyncio.sleep(0)

    def close_all(self, reason: str) -> None:
        """Close all connections now."""
        for connection in self._all():
            connection.close(reason)

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
        return "its Connector passes another identity to the target now"
    if resolution.permissions is None or resolution.permissions == access.target.permissions:
        return ""
    return (
        "its Connector no longer allows it"
        if isinstance(resolution.permissions.evaluate(access.attributes()), NotAllowed)
        else ""
    )
