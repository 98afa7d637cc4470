"""Cache of the answers to access checks. Concurrent checks of the same key share one.

A grant is valid for `ttl` seconds, and never after its own expiry. A refusal is valid for `refusal_ttl` seconds.
Unavailable is not cached. Grants and refusals have separate bounds, so that many bad tokens do not evict good ones.

In an outage, when the API server cannot be asked, an earlier grant stays valid for up to `outage_grace` more seconds.
The cache still asks every OUTAGE_RETRY_INTERVAL. A refusal ends the grant at once.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from connector_store.boot_time import boot_time
from connector_store.cache import ExpiringCache
from connector_store.domain.callers.access import Granted, Refused, Unavailable
from connector_store.single_flight import SingleFlight
from connector_store.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

OUTAGE_PATIENCE: Final = 1.0
"""Seconds that a caller with an earlier grant waits for a check. The check continues without it."""
OUTAGE_RETRY_INTERVAL: Final = 10.0
"""Seconds for which an earlier grant is used without another check."""
LOG_INTERVAL: Final = 60.0
"""Minimum number of seconds between two log lines about an outage."""

REFUSAL_TTL: Final = 3.0
"""Seconds that a refusal is cached. It is short, so that a new right takes effect soon."""
MAX_GRANTS: Final = 20_000
MAX_REFUSALS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Grant[V]:
    """Positive answer. It needs no further check until `valid_until`. Times are in seconds of the cache's clock."""

    value: V
    checked_at: float
    valid_until: float
    ends_at: float = field(default=math.inf, compare=False)
    """End of its use in an outage."""


class AnswerCache[K: Hashable, V]:
    """Answers to one kind of check, by key. `flights` bounds the checks, and may be shared with other caches."""

    def __init__(
        self,
        flights: SingleFlight,
        *,
        ttl: float,
        refusal_ttl: float = REFUSAL_TTL,
        outage_grace: float = 0.0,
        max_grants: int = MAX_GRANTS,
        max_refusals: int = MAX_REFUSALS,
        expires_at: Callable[[V], float] = lambda value: math.inf,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        """Create the cache. `refusal_ttl=0` caches no refusal, and `outage_grace=0` uses no earlier grant.

        `expires_at` is in seconds of `clock`.
        """
        self._flights = flights
        self._ttl = ttl
        self._refusal_ttl = refusal_ttl
        self._outage_grace = outage_grace
        self._expires_at = expires_at
        self._clock = clock
        self._grants = ExpiringCache[K, Grant[V]](max_grants)
        self._refusals = ExpiringCache[K, Refused](max_refusals)
        self.refusal_count = 0
        """Number of refusals so far. Each may have revoked a grant before its `valid_until`."""
        self.outage_count = 0
        """Number of times that an earlier grant was used, because no check was available."""
        self._log_limit = TokenBucket(rate=1 / LOG_INTERVAL, burst=1, now=clock)

    def get(self, key: K) -> Grant[V] | Refused | None:
        """Return the cached answer, or None if a check is needed."""
        now = self._clock()
        grant = self._grants.get(key, now=now)
        if grant is not None and now < grant.valid_until:
            return grant
        return self._refusals.get(key, now=now)

    async def ask(
        self,
        key: K,
        check: Callable[[], Coroutine[None, None, V | Refused | Unavailable]],
        *,
        flights: SingleFlight | None = None,
    ) -> Grant[V] | Refused | Unavailable:
        """Return the cached answer, or else that of `check`. In an outage, return the earlier grant.

        `flights` bounds this check in place of those of the cache.
        """
        cached = self.get(key)
        if cached is not None:
            return cached
        if self._grants.get(key, now=self._clock()) is None:
            return await self.renew(key, check, flights=flights)
        try:
            async with asyncio.timeout(OUTAGE_PATIENCE):
                answer = await self.renew(key, check, flights=flights)
        except TimeoutError:
            answer = Unavailable(reason="the check takes too long", kind="check_timeout", is_outage=True)
        if isinstance(answer, Unavailable) and answer.is_outage:
            return self._prolong(key, answer) or answer
        return answer

    def _prolong(self, key: K, outage: Unavailable) -> Grant[V] | None:
        """Return the earlier grant, unless it has ended or was refused meanwhile."""
        now = self._clock()
        grant = self._grants.get(key, now=now)
        if grant is None:
            return None
        self.outage_count += 1
        if self._log_limit.take():
            logger.warning(
                "callers that were verified keep working for up to %.0f s, because the API server cannot be asked: %s",
                self._outage_grace,
                outage.reason,
            )
        grant = replace(grant, valid_until=min(now + OUTAGE_RETRY_INTERVAL, grant.ends_at))
        self._grants.put(key, grant, expires_at=grant.ends_at)
        return grant

    async def renew(
        self,
        key: K,
        check: Callable[[], Coroutine[None, None, V | Refused | Unavailable]],
        *,
        flights: SingleFlight | None = None,
    ) -> Grant[V] | Refused | Unavailable:
        """Return the answer of `check`, or of a check of `key` that already runs."""
        return await (flights or self._flights).do((self, key), lambda: self._check(key, check))

    async def _check(
        self, key: K, check: Callable[[], Coroutine[None, None, V | Refused | Unavailable]]
    ) -> Grant[V] | Refused | Unavailable:
        started_at = self._clock()
        answer = await check()
        if isinstance(answer, Unavailable):
            return answer
        if isinstance(answer, Refused):
            self._grants.drop(key)
            self.refusal_count += 1
            lifetime = self._ttl if answer.is_entitled else self._refusal_ttl
            self._refusals.put(key, answer, expires_at=started_at + lifetime)
            return answer
        expires_at, valid_until = self._expires_at(answer), started_at + self._ttl
        grant = Grant(
            answer, started_at, min(valid_until, expires_at), min(valid_until + self._outage_grace, expires_at)
        )
        self._refusals.drop(key)
        self._grants.put(key, grant, expires_at=grant.ends_at)
        return grant


def token_expiry(granted: Granted, *, now: float, clock: float) -> float:
    """Return the expiry of the caller's token in seconds of a clock. `now` is in Unix seconds, at the time `clock`."""
    return math.inf if granted.token_expires_at is None else clock + granted.token_expires_at - now


def combine(
    caller: Grant[Granted], use: Grant[Literal[True]] | Refused | Unavailable
) -> Granted | Refused | Unavailable:
    """Return the caller with a right that was checked. It is valid until one of the two answers is not.

    A refusal without an opinion gets the caller, for the authorizers that follow.
    """
    if isinstance(use, Refused) and not use.has_opinion:
        return replace(use, authentication=replace(caller.value, has_right=False))
    if not isinstance(use, Grant):
        return use
    return replace(caller.value, valid_until=min(caller.valid_until, use.valid_until))
