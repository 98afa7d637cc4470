"""Budgets of callers: how much of `spec.limits` they have used, at this proxy since its start."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.permissions.limits import Exceeded, LimitScope, Rate, Spending
from connector_store.token_bucket import MAX_BUCKETS, TokenBucket, TokenBucketTable

_OTHERS = LimitScope("", "", 1)
"""Scope of new callers while the table is full. They share the limit of one caller."""


class _BucketKey(NamedTuple):
    """Key of a bucket. A changed limit has other buckets."""

    connector: ObjectKey
    uid: str
    scope: LimitScope
    rate: Rate


class Budgets:
    """Token buckets and session counts by Connector and scope.

    `find_exceeded` changes nothing. A request that passes is charged in the same step of the event loop.
    """

    def __init__(self, *, max_buckets: int = MAX_BUCKETS, now: Callable[[], float] = boot_time) -> None:
        self._buckets = TokenBucketTable[_BucketKey](max_buckets=max_buckets, now=now)
        self._session_counts: Counter[tuple[ObjectKey, str, LimitScope]] = Counter()

    def __len__(self) -> int:
        return len(self._buckets)

    def find_exceeded(self, spending: Spending) -> Exceeded | None:
        """Return the exceeded limit with the longest wait, or None."""
        sessions, own_scope = spending.sessions, spending.scopes[0]
        for rate in spending.rates:
            if rate.amount == 0:
                return Exceeded(rate, own_scope, None)
        for scope in spending.scopes if sessions is not None else ():
            if (
                sessions is not None
                and self._session_counts[_count_key(spending, scope)] >= sessions.amount * scope.factor
            ):
                return Exceeded(sessions, scope, None)
        exceeded: Exceeded | None = None
        for rate in spending.rates:
            for scope in spending.scopes:
                bucket = self._find(spending, scope, rate)
                wait = 1 / rate.per_second if bucket is None else bucket.wait()
                if wait > 0 and (exceeded is None or wait > (exceeded.wait or 0)):
                    exceeded = Exceeded(rate, scope, wait)
        return exceeded

    def charge(self, spending: Spending) -> None:
        """Count a request that `find_exceeded` did not refuse, without its session."""
        for rate in spending.rates:
            for scope in spending.scopes:
                bucket = self._find(spending, scope, rate)
                if bucket is not None:
                    bucket.charge()

    def open_session(self, spending: Spending) -> None:
        for scope in spending.scopes:
            self._session_counts[_count_key(spending, scope)] += 1

    def close_session(self, spending: Spending) -> None:
        for scope in spending.scopes:
            key = _count_key(spending, scope)
            self._session_counts[key] -= 1
            if not self._session_counts[key]:
                del self._session_counts[key]

    def _find(self, spending: Spending, scope: LimitScope, rate: Rate) -> TokenBucket | None:
        key = _BucketKey(spending.key, spending.uid, scope, rate)
        return self._buckets.find(
            key,
            shared_key=key._replace(scope=_OTHERS),
            rate=rate.per_second * scope.factor,
            burst=rate.burst * scope.factor,
        )


def _count_key(spending: Spending, scope: LimitScope) -> tuple[ObjectKey, str, LimitScope]:
    return spending.key, spending.uid, scope
