"""Schedule of the rechecks of callers with live connections.

A token is checked once for all its connections, because its pod may have been deleted. The right to use a Connector is
checked once for all callers with the same user and groups. Each check runs every INTERVAL of `recheck`. New ones get
different first times, so the checks are spread over the interval.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Granted, Identity, Refused, Unavailable
from connector_store.timed_slots import TimedSlots

MAX_CONCURRENT_RECHECKS: Final = 16
"""Maximum number of rechecks that start at the same time, before other tasks can run."""
RECHECK_SLOT_TIMEOUT: Final = 0.02
"""Maximum number of seconds that a recheck holds one of these places. So 800 can start in a second, however long each
takes: enough for 20,000 in INTERVAL.
"""
TICKS: Final = 20
"""Number of times in `recheck` at which rechecks start. A program that wakes up for each review needs up to twice the
CPU for it, and so does the API server.
"""
INTERVAL: Final = (TICKS - 1) / TICKS
"""Share of `recheck` between two checks: all ticks but one. The last, 1.5 of 30 seconds, is for the check itself."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Check:
    """Check of a token, or of the right of `identity` to use `key`. Times are in seconds of the clock."""

    token: str = field(repr=False)
    identity: Identity
    key: ObjectKey | None
    """Connector that the right is for. None for the check of the token."""
    checked_at: float
    due_at: float
    expires_at: float
    """End of the token's life."""
    keys: set[ObjectKey] = field(default_factory=set)
    """Connectors whose live connections depend on the check."""


class CallerChecks(NamedTuple):
    """Checks on which the live connections of a token to one Connector depend."""

    token: Check
    use: Check


class Rechecks:
    """Creates the checks of callers, and runs them when they are due."""

    def __init__(
        self,
        access: Access,
        *,
        recheck: float,
        on_refused: Callable[[Check, Refused], None],
        clock: Callable[[], float] = boot_time,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Create the schedule. `on_refused` is called with a check that refuses, and its result.

        `now` is in Unix seconds, of the clock that the times of tokens are from.
        """
        self._access = access
        self._recheck = recheck
        self._on_refused = on_refused
        self._clock = clock
        self._now = now
        self._slots = TimedSlots(MAX_CONCURRENT_RECHECKS, timeout=RECHECK_SLOT_TIMEOUT)
        self._checks = WeakValueDictionary[str | tuple[Identity, ObjectKey], Check]()

    @property
    def tick(self) -> float:
        """Seconds between two starts of rechecks. Each starts those that are due before the next one."""
        return self._recheck / TICKS

    def get_checks(self, token: str, grant: Granted, key: ObjectKey) -> CallerChecks:
        """Return the checks of a caller. Other callers share them as long as this one keeps them."""
        caller = self._checks.get(token) or self._create(token, grant, None)
        subject = grant.identity.without_token()
        use = self._checks.get((subject, key)) or self._create(token, grant, key)
        caller.keys.add(key)
        use.keys.add(key)
        self._checks[token] = caller
        self._checks[subject, key] = use
        return CallerChecks(caller, use)

    def _create(self, token: str, grant: Granted, key: ObjectKey | None) -> Check:
        """Return the check that granted access, which may have come from a cache."""
        now, valid_until = self._clock(), grant.valid_until
        # Two ticks before the grant is as old as `recheck`.
        latest = max(0.0, min(INTERVAL * self._recheck, valid_until - 2 * self.tick - now))
        expires_at = grant.token_expires_at
        return Check(
            token=token,
            identity=grant.identity,
            key=key,
            checked_at=min(now, valid_until - self._recheck) if valid_until else now,
            due_at=now + random.uniform(0, latest),  # noqa: S311 - for spreading only
            expires_at=math.inf if expires_at is None else now + expires_at - self._now(),
        )

    async def start_due(
        self, tasks: asyncio.TaskGroup, checks: Iterable[Check], *, due_before: float = math.inf
    ) -> None:
        """Start the checks that are due before `due_before`, the oldest first."""
        due = (each for each in checks if each.due_at < due_before)
        for check in sorted(due, key=lambda check: check.due_at):
            tasks.create_task(self._run(check, await self._slots.acquire()))

    async def _run(self, check: Check, slot: ExitStack) -> None:
        started_at, interval = self._clock(), INTERVAL * self._recheck
        # Late checks keep their place in the interval, so that they do not stay together.
        check.due_at += interval * max(1, math.ceil((started_at - check.due_at) / interval))
        with slot:
            result: object
            if check.key is None:
                result = await self._access.recheck_token(check.token, check.identity)
            else:
                result = await self._access.recheck_use(check.token, check.identity, check.key)
        if not isinstance(result, Unavailable):
            check.checked_at = started_at
        if isinstance(result, Refused):
            self._on_refused(check, result)
