"""Inputs of access decisions, and the check whether the caller with a token may use a Connector."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from typing import Final, get_args

from addons.access.budgets import Budgets
from addons.access.entitlements import Entitlements
from addons.access.target_tokens import TargetTokens
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, AccessResult, Granted, Refused, Unavailable, UnavailableKind
from connector_store.domain.decision.decide import ProxyLimits
from connector_store.token_bucket import TokenBucketBySource

logger = logging.getLogger(__name__)

REFUSAL_RATE: Final = 5.0
REFUSAL_BURST: Final = 100
"""Refused tokens that one client address may send: per second on average, and in a burst. Accepted tokens do not
count."""

CHECK_TIMEOUT: Final = 15.0
"""Maximum number of seconds for a check."""
RETRY_AFTER: Final = 5
"""Value of Retry-After in seconds for clients at an address that has sent too many refused tokens."""
NO_ANSWER: Final[AccessResult] = Unavailable(reason="the check returned no result")
QUIET_PERIOD: Final = 60.0
"""Seconds without an unavailable check of a kind after which the log says that the kind has ended."""


@dataclass(slots=True)
class CacheStats:
    """Counters of the access cache since the start."""

    hit_count: int = 0
    """Decisions that needed no check."""


class UnavailableChecks:
    """Number of unavailable checks by kind. The log says when a kind begins and when it has ended."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.counts: dict[str, int] = dict.fromkeys(get_args(UnavailableKind), 0)
        self._now = now
        self._last_at: dict[UnavailableKind, float] = {}

    def record(self, result: AccessResult) -> None:
        now = self._now()
        for kind, last_at in tuple(self._last_at.items()):
            if now - last_at >= QUIET_PERIOD:
                del self._last_at[kind]
                logger.info("callers can be checked again: no %s for %d s", kind, QUIET_PERIOD)
        if isinstance(result, Unavailable):
            if result.kind not in self._last_at:
                logger.warning("callers cannot be checked: %s: %s", result.kind, result.reason)
            self._last_at[result.kind] = now
            self.counts[result.kind] += 1


@dataclass(slots=True, kw_only=True)
class AccessContext:
    """Inputs of access decisions. While `unsynced` is not empty, every caller is refused.

    `policy` is replaced when the settings change. The rest stays.
    """

    unsynced: Set[str]
    access: Access
    target_tokens: TargetTokens
    policy: ProxyLimits
    entitlements: Entitlements = field(default_factory=Entitlements)
    """Policies, approved requests and locks."""
    connection_counts: Counter[tuple[str, ObjectKey]] = field(default_factory=Counter)
    """Number of connections by caller and Connector."""
    budgets: Budgets = field(default_factory=Budgets)
    """Used parts of the limits of Connectors."""
    cache_stats: CacheStats = field(default_factory=CacheStats)
    unavailable: UnavailableChecks = field(default_factory=UnavailableChecks)
    refusals: TokenBucketBySource = field(
        default_factory=lambda: TokenBucketBySource(rate=REFUSAL_RATE, burst=REFUSAL_BURST)
    )
    """Limit on refused tokens by client address."""
    is_audit_log_full: Callable[[], bool] | None = None
    """Return True while the audit log cannot accept records, so that new requests are refused. None disables this."""


async def check_caller(
    access_context: AccessContext,
    token: str,
    key: ObjectKey,
    source_ip: str,
    on_granted: Callable[[Granted], None] = lambda granted: None,
) -> AccessResult:
    """Check a caller at `source_ip`. The result is Unavailable if too many tokens from this address were refused.

    `on_granted` is called before a granted caller waits for a token of the target.
    """

    async def wait_for_token(granted: Granted) -> None:
        on_granted(granted)
        await access_context.target_tokens.wait_for_token(key)

    result: AccessResult
    if not access_context.refusals.has_token(source_ip):
        reason = f"too many tokens from {source_ip} were refused"
        result = Unavailable(reason=reason, kind="too_many_refused_tokens", retry_after=RETRY_AFTER)
    else:
        result = await check_access(access_context.access, token, key, source_ip, on_granted=wait_for_token)
        if isinstance(result, Refused) and result.check == "token":
            # A refusal counts when it happens, so the callers behind one address do not wait for each other.
            access_context.refusals.charge(source_ip)
    access_context.unavailable.record(result)
    return result


async def check_access(
    access: Access,
    token: str,
    key: ObjectKey,
    source_ip: str,
    *,
    on_granted: Callable[[Granted], Awaitable[None]],
    timeout: float = CHECK_TIMEOUT,  # noqa: ASYNC109 - the result on a timeout is part of the contract
) -> AccessResult:
    """Return the result of `access`. For a granted caller, await `on_granted` first.

    The result is Unavailable if one of them fails, or if both together take longer than `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            result = await access.check(token, key, source_ip)
            if isinstance(result, Granted):
                await on_granted(result)
            return result
    except TimeoutError:
        return Unavailable(reason="the check took too long", kind="check_timeout")
    except Exception as error:
        # Any failure means that the caller is not granted access. The text of the error may contain the token.
        logger.error("check of a caller of Connector %s failed: %s", key, type(error).__name__)
        return Unavailable(reason="the check failed")
