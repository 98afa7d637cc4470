"""Policies, approved access requests and locks, applied to the result of a caller's access check.

The result of the API server is cached. These are not: each decision uses the objects as they are now.
"""

from typing import NamedTuple

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Refused
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.grants.access_index import NO_ENTITLEMENT, AccessIndex
from connector_store.domain.grants.authorizers import authorize
from connector_store.domain.objects.access_objects import AccessLock


class UseDecision(NamedTuple):
    """Result of the authorizers. `grant` lets the caller use the Connector, `grants` can add permissions."""

    access: AccessResult
    grant: AccessGrant | None = None
    grants: tuple[AccessGrant, ...] = ()
    lock: AccessLock | None = None


class Reauthorization(NamedTuple):
    """Decision on a live connection. `reason` says why it must be closed, or is empty."""

    decision: UseDecision
    reason: str


class Entitlements:
    """Decisions by an index of access objects. Without an index, the API server's result stands."""

    def __init__(self, index: AccessIndex | None = None) -> None:
        self.index = index

    @property
    def has_objects(self) -> bool:
        return self.index is not None and self.index.has_objects

    def authorize(self, access: AccessResult, key: ObjectKey) -> UseDecision:
        """Run the authorizers for the caller, and look for a lock."""
        index = self.index
        caller = access.authentication if isinstance(access, Refused) else access
        if index is None or not isinstance(caller, Granted):
            return UseDecision(access)
        lock = index.find_lock(caller.identity, key) if index.has_locks else None
        entitlement = index.find_entitlement(caller.identity, key)
        if entitlement is NO_ENTITLEMENT:
            return UseDecision(access, None, (), lock)
        decided_access, grant = authorize(access, entitlement)
        return UseDecision(decided_access, grant, entitlement.grants, lock)

    def authorize_without_right(self, caller: Granted, key: ObjectKey) -> UseDecision:
        """Run the authorizers for a caller on whose right the API server has no opinion."""
        refusal = Refused(check="use", reason="no opinion", has_opinion=False, authentication=caller)
        return self.authorize(refusal, key)

    def reauthorize(self, caller: Granted, grant: AccessGrant | None, key: ObjectKey) -> Reauthorization:
        """Decide on a live connection again, without the API server.

        `grant` is the access request of its current request, if the request depends on one.
        """
        decision = self.authorize(caller, key) if caller.has_right else self.authorize_without_right(caller, key)
        if decision.lock is not None:
            reason = f"an AccessLock locks its caller out: {decision.lock.reason or decision.lock.problem}"
        elif grant is not None and all(each.request_uid != grant.request_uid for each in decision.grants):
            ending = "has ended" if self.remaining(grant) <= 0 else "was deleted or is no longer approved"
            reason = f"its access request {grant.request} {ending}"
        elif not isinstance(decision.access, Granted):
            reason = "no AccessPolicy lets its caller use the Connector any more"
        else:
            reason = ""
        return Reauthorization(decision, reason)

    def remaining(self, grant: AccessGrant) -> float:
        """Return the seconds until the end of a grant."""
        return self.index.remaining(grant) if self.index is not None else 0.0
