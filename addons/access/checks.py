"""What a decision asks: may the caller with this token use the Connector, and what is there at that moment."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from typing import Final

from addons.access.target_tokens import TargetTokens
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, AccessResult, Granted, Refused, Unavailable
from connector_store.domain.decision.decide import AccessPolicy
from connector_store.kube.rate_limiter import RateLimiterBySource

logger = logging.getLogger(__name__)

REFUSAL_RATE: Final = 5.0
REFUSAL_BURST: Final = 100
"""Tokens that the API server has to refuse for one client address: at once, and how many a second come back. What is
accepted costs nothing of it."""

CHECK_TIMEOUT: Final = 15.0
"""Seconds that a check may take, however long whoever is asked would wait."""
RETRY_AFTER: Final = 5
"""Seconds after which somebody whose address has used up its refusals is told to come again."""
NO_ANSWER: Final[AccessResult] = Unavailable(reason="nobody answered")


@dataclass(slots=True)
class CacheStats:
    """Decisions, since the start."""

    hit_count: int = 0
    """Nobody was asked for the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Where decisions have their values from. While `missing` names anything, nobody is let in."""

    unsynced: Set[str]
    access: Access
    target_tokens: TargetTokens
    policy: AccessPolicy
    connection_counts: Counter[tuple[str, ObjectKey]] = field(default_factory=Counter)
    """Connections by caller and Connector."""
    cache_stats: CacheStats = field(default_factory=CacheStats)
    refusals: RateLimiterBySource = field(default_factory=lambda: RateLimiterBySource(REFUSAL_RATE, REFUSAL_BURST))
    """By client address."""
    is_audit_log_full: Callable[[], bool] | None = None
    """True while nothing may begin, because it would not be written down; None where that does not count."""


async def check_caller(checks: Checks, token: str, key: ObjectKey, source: str) -> AccessResult:
    """The answer for a client at the address `source`; Unavailable where too many of its tokens were refused."""
    if not checks.refusals.take(source, time.monotonic()):
        return Unavailable(reason=f"too many tokens from {source} were refused", retry_after=RETRY_AFTER)
    answer = await check_access(checks.access, token, key, on_granted=checks.target_tokens.wait_for_token)
    if not (isinstance(answer, Refused) and answer.check == "token"):
        checks.refusals.refund(source)
    return answer


async def check_access(
    access: Access,
    token: str,
    key: ObjectKey,
    *,
    on_granted: Callable[[ObjectKey], Awaitable[None]],
    timeout: float = CHECK_TIMEOUT,  # noqa: ASYNC109 - the limit is part of what is promised
) -> AccessResult:
    """The answer of `access`, and `then` what else takes time for whom it has let in.

    Unavailable where either fails, or both take longer than `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            answer = await access.check(token, key)
            if isinstance(answer, Granted):
                await on_granted(key)
            return answer
    except TimeoutError:
        return Unavailable(reason="the check took too long")
    except Exception as error:
        logger.error("check of a caller of Connector %s failed: %s", key, type(error).__name__)
        return Unavailable(reason="the check failed")
