"""Measure the time that AccessPolicies and access requests add to a decision: a namespace with many of both."""

import time
from typing import Final

from addons.access.entitlements import Entitlements
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused
from connector_store.domain.grants.access_index import AccessClock, AccessIndex
from connector_store.domain.objects.access_objects import AccessApproval, AccessPolicy, AccessRequest, ApprovalRule
from connector_store.domain.objects.models import Address, Connector

ACCESS_COST: Final = "1,000 policies and 5,000 grants, µs more"
"""Name of the figure: additional time of the authorizers, for the slower of a caller with the right and one with a
grant."""
POLICIES: Final = 1_000
GRANTS: Final = 5_000
REPETITIONS: Final = 2_000
ROUNDS: Final = 15

_KEY: Final = ObjectKey("bench", "target")
_CALLER: Final = Granted(identity=Identity(user="user-0"))
_GUEST: Final = Refused(check="use", reason="", has_opinion=False, authentication=_CALLER)


def measure_access(*, policies: int = POLICIES, grants: int = GRANTS) -> dict[str, float]:
    """Return the time of the fastest of several rounds, because disturbances only add time. The indexes take turns."""
    none, many = _make_index(0, 0), _make_index(policies, grants)
    cases: dict[str, tuple[Entitlements, AccessResult]] = {
        "none": (none, _CALLER),
        "right": (many, _CALLER),
        "grant": (many, _GUEST),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(ROUNDS):
        for name, (entitlements, access) in cases.items():
            best[name] = min(best[name], _measure(entitlements, access))
    return {ACCESS_COST: max(0.0, best["right"] - best["none"], best["grant"] - best["none"])}


def _make_index(policies: int, grants: int) -> Entitlements:
    """Return an index with policies for one Connector, and one live grant for each of many callers."""
    connector = Connector(key=_KEY, class_name="k8s", address=Address(host="target", port=6443), uid="c")
    index = AccessIndex({_KEY: connector}.get, clock=AccessClock(lambda: 2.0, time.monotonic))
    index.set_enforced_since(0.0)
    for number in range(policies):
        key = ObjectKey(_KEY.namespace, f"policy-{number}")
        index.set(AccessPolicy, key, AccessPolicy(key=key, uid=key.name, approval=ApprovalRule()))
    for number in range(grants):
        key, user = ObjectKey(_KEY.namespace, f"request-{number}"), f"user-{number}"
        request = AccessRequest(
            key=key, uid=key.name, requester=user, subject=user, connector=_KEY.name, duration=3600.0, created_at=1.0
        )
        approval = AccessApproval(
            key=key, uid=f"a-{number}", request_name=key.name, request_uid=key.name, policy_name="policy-0",
            policy_uid="policy-0", by="approver", is_approved=True, created_at=2.0,
        )  # fmt: skip
        index.set(AccessRequest, key, request)
        index.set(AccessApproval, key, approval)
    return Entitlements(index)


def _measure(entitlements: Entitlements, access: AccessResult) -> float:
    """Return the µs of one run of the authorizers."""
    started_at = time.thread_time()
    for _ in range(REPETITIONS):
        decision = entitlements.authorize(access, _KEY)
    seconds = time.thread_time() - started_at
    if not isinstance(decision.access, Granted):
        raise RuntimeError("the grant does not let the caller in")
    return seconds / REPETITIONS * 1e6
