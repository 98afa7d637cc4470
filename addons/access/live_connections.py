"""Live connections, which are closed when their Connector changes or their caller loses the right to use it."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import batched, count
from typing import Final, Protocol

from addons.access.entitlements import Entitlements
from addons.access.rechecks import CallerChecks, Check, Rechecks
from addons.records.session_row import SessionRow
from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Granted, Refused
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.grants.wider_permissions import evaluate_grants
from connector_store.domain.objects.models import Target
from connector_store.domain.permissions.evaluator import Allowed, NotAllowed, PermissionEvaluator
from connector_store.domain.permissions.request_attributes import RequestAttributes
from connector_store.domain.permissions.restrictions import Treatment

CLOSING_TICKS: Final = 2
"""Ticks of the rechecks between two looks at all live connections."""
CLIENT_CHECK_TICKS: Final = 10
"""Ticks between two looks for clients that have closed their connections."""
BATCH_SIZE: Final = 256
"""Connections that are examined before other tasks can run, which takes about a millisecond."""
END_INTERVAL: Final = 1.0
"""Maximum seconds between two looks for access requests that have ended. The clock of ends runs on in a suspend."""
MIN_END_INTERVAL: Final = 0.05
"""Minimum seconds between two looks."""
REASON_EXPIRED: Final = "its caller's token has expired"
"""Reason why a connection was closed."""


@dataclass(slots=True)
class LiveAccess:
    """Access decision on the current request of a live connection."""

    target: Target
    token: str = field(repr=False)
    grant: Granted
    attributes: Callable[[], RequestAttributes]
    """Return the attributes of the request that permissions decide on."""
    access_grant: AccessGrant | None = None
    """Approved access request without which the request would be refused."""


class LiveConnection(Protocol):
    """One client connection to a Connector."""

    @property
    def key(self) -> ObjectKey | None:
        """Connector of the connection. None before its first request."""

    @property
    def live_access(self) -> LiveAccess | None:
        """Access of the current request. None between requests."""

    @property
    def target_ip(self) -> str | None:
        """IP address of the target that the connection is connected to, or None without one."""

    def session_row(self, *, commands: bool) -> SessionRow | None:
        """Return the row of the current request while a target has it, with the command of an exec if `commands`."""

    def close(self, reason: str) -> None:
        """Close the connection now, and write `reason` to the audit log."""

    def close_if_client_gone(self) -> None:
        """Close the connection if its client has closed it. A paused client does not report its EOF."""


class TargetStore(Protocol):
    """Source of the current targets."""

    def get(self, key: ObjectKey) -> Resolution: ...


_Caller = tuple[str, ObjectKey]
"""Token of a caller, and the Connector that it uses."""


class LiveConnections:
    """All live connections, by Connector.

    A look at all of them, every CLOSING_TICKS, closes those whose caller's token has expired. It never waits for
    a recheck. Rechecks run apart from it (see `Rechecks`).
    """

    def __init__(
        self,
        store: TargetStore,
        access: Access,
        *,
        recheck: float,
        cut_expired: bool,
        entitlements: Entitlements | None = None,
        clock: Callable[[], float] = boot_time,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`recheck` is the number of seconds within which connections of a caller without the right are closed.

        With `cut_expired`, the expiry of a token closes its connections even if its owner exists. `now` is in Unix
        seconds, of the clock that the times of tokens are from.
        """
        self._store = store
        self._entitlements = entitlements or Entitlements()
        self._cut_expired = cut_expired
        self._clock = clock
        self._now = now
        self._rechecks = Rechecks(access, recheck=recheck, on_refused=self._close_refused, clock=clock, now=now)
        self._callers: dict[_Caller, CallerChecks] = {}
        """Callers with a live request."""
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
        """Close the connections that their changed Connector no longer allows. Subscribe this method to the store.

        A Connector also changes with the policies, requests and locks for it.
        """
        for key in keys & self._by_connector.keys():
            resolution = self._store.get(key)
            for connection in tuple(self._by_connector.get(key, ())):
                access = connection.live_access
                if access is not None and (reason := self._find_close_reason(resolution, access, key)):
                    connection.close(reason)

    def close_denied(self, allows: Callable[[str], bool]) -> None:
        """Close the connections to targets whose IP address `allows` does not allow."""
        for connection in self._all():
            if connection.target_ip is not None and not allows(connection.target_ip):
                connection.close("targets-deny denies the address of its target now")

    def _find_close_reason(self, resolution: Resolution, access: LiveAccess, key: ObjectKey) -> str:
        decision, reason = self._entitlements.reauthorize(access.grant, access.access_grant, key)
        return reason or _close_reason(resolution, access, decision.grants)

    def close_ended(self) -> float:
        """Close the connections whose access request has ended.

        Return the seconds until the next end of a live connection's access request, at most END_INTERVAL.
        """
        if not self._entitlements.has_objects:
            return END_INTERVAL
        seconds = END_INTERVAL
        for key, siblings in tuple(self._by_connector.items()):
            for connection in tuple(siblings):
                access = connection.live_access
                if access is None or access.access_grant is None:
                    continue
                reason = self._entitlements.reauthorize(access.grant, access.access_grant, key).reason
                if reason:
                    connection.close(reason)
                else:
                    seconds = min(seconds, self._entitlements.remaining(access.access_grant))
        return seconds

    async def _run_ends(self) -> None:
        while True:
            seconds = self.close_ended()
            await asyncio.sleep(max(MIN_END_INTERVAL, seconds))

    @property
    def oldest_check_age(self) -> float:
        """Seconds since the oldest access check of a caller with a live request. 0 if there is no such caller."""
        return max(0.0, self._clock() - min((check.checked_at for check in self._checks()), default=math.inf))

    async def run(self) -> None:
        """Close connections and recheck their callers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_closing())
            tasks.create_task(self._run_ends())
            for _ in count():
                ends_at = self._clock() + self._rechecks.tick
                await self._rechecks.start_due(tasks, self._checks(), due_before=ends_at)
                await asyncio.sleep(max(0.0, ends_at - self._clock()))

    async def _run_closing(self) -> None:
        for tick in count(step=CLOSING_TICKS):
            ends_at = self._clock() + CLOSING_TICKS * self._rechecks.tick
            if tick % CLIENT_CHECK_TICKS == 0:
                await self._close_gone_clients()
            await self.update_callers()
            await asyncio.sleep(max(0.0, ends_at - self._clock()))

    def _checks(self) -> set[Check]:
        return {check for checks in self._callers.values() for check in checks}

    async def update_callers(self) -> None:
        """Find the callers with a live request. Close the connections whose token's expiry ends them."""
        callers: dict[_Caller, CallerChecks] = {}
        for batch in batched(self._all(), BATCH_SIZE):
            for connection in batch:
                access, key = connection.live_access, connection.key
                if access is None or key is None:
                    continue
                caller = (access.token, key)
                checks = callers.get(caller) or self._callers.get(caller)
                if checks is None:
                    checks = self._rechecks.get_checks(access.token, access.grant, key)
                if self._is_ended_by_expiry(access, checks):
                    connection.close(REASON_EXPIRED)
                else:
                    callers[caller] = checks
            await asyncio.sleep(0)
        self._callers = callers

    def _is_ended_by_expiry(self, access: LiveAccess, checks: CallerChecks) -> bool:
        """Return True if the token has expired, and its expiry closes its connections.

        Both clocks count: `now` can be set back, and the boot-time clock never.
        """
        expires_at = access.grant.token_expires_at
        if not (self._cut_expired or access.grant.ends_with_token):
            return False
        return expires_at is not None and (expires_at <= self._now() or checks.token.expires_at <= self._clock())

    def _close_refused(self, check: Check, refusal: Refused) -> None:
        for key in check.keys:
            for connection in tuple(self._by_connector.get(key, ())):
                access = connection.live_access
                if access is None:
                    continue
                checks = self._callers.get((access.token, key))
                if checks is None or check not in checks:
                    continue
                # A recheck may find an expiry, or the end of an access request, before the look at all connections.
                if self._is_ended_by_expiry(access, checks):
                    connection.close(REASON_EXPIRED)
                elif not self._is_still_entitled(refusal, access, key):
                    ending = self._entitlements.reauthorize(access.grant, access.access_grant, key).reason
                    connection.close(ending or "its caller may not use the Connector any more")

    def _is_still_entitled(self, refusal: Refused, access: LiveAccess, key: ObjectKey) -> bool:
        """Return True if the API server has no opinion, and a policy or an approved request lets the caller in."""
        if refusal.has_opinion:
            return False
        authentication = replace(access.grant, has_right=False)
        return isinstance(self._entitlements.authorize_without_right(authentication, key).access, Granted)

    async def _close_gone_clients(self) -> None:
        for batch in batched(self._all(), BATCH_SIZE):
            for connection in batch:
                connection.close_if_client_gone()
            await asyncio.sleep(0)

    def connections(self) -> list[LiveConnection]:
        """Return all live connections. One of them can end at any time after that."""
        return self._all()

    def close_all(self, reason: str) -> None:
        """Close all connections now."""
        for connection in self._all():
            connection.close(reason)

    def _all(self) -> list[LiveConnection]:
        return [connection for siblings in self._by_connector.values() for connection in siblings]


def _close_reason(resolution: Resolution, access: LiveAccess, grants: tuple[AccessGrant, ...] = ()) -> str:
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
    attributes, old = access.attributes(), access.target.permissions
    result = _evaluate(resolution.permissions, attributes, grants)
    if isinstance(result, NotAllowed):
        return "its Connector no longer allows it"
    old_result = _evaluate(old, attributes, grants) if old is not None else None
    old_treatment = old_result.treatment if isinstance(old_result, Allowed) else Treatment.UNCHANGED
    return "" if result.treatment is old_treatment else "its Connector masks or limits it in another way now"


def _evaluate(
    permissions: PermissionEvaluator, attributes: RequestAttributes, grants: tuple[AccessGrant, ...]
) -> Allowed | NotAllowed:
    result = permissions.evaluate(attributes)
    return evaluate_grants(permissions, grants, attributes, result)[0] if isinstance(result, NotAllowed) else result
