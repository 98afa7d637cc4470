"""Rows of the table of access requests. The state is that of the condition Ready, or else follows from the approvals.

A proxy checks more than this module, such as the time of the approval and what the Connector offers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX
from connector_store.domain.objects.access_objects import AccessApproval, AccessPolicy, ApprovalRule
from connector_store.domain.objects.manifest_access import parse_access_approval, parse_access_policy

PENDING: Final = "Pending"
"""State of a request on which an approver can still decide."""
NOT_ENFORCED: Final = "NotEnforced"
"""State of a request that never counts, because it is older than the proof of the admission policies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One AccessRequest. `until` is empty before the approval."""

    namespace: str
    name: str
    subject: str
    connector: str
    duration: str
    state: str
    until: str
    approved_by: tuple[str, ...]
    reason: str
    message: str
    is_ready: bool

    @property
    def is_pending(self) -> bool:
        """True if an approver can still decide."""
        return not self.is_ready and self.state == PENDING

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)


def parse_row(
    raw: dict[str, Any], approvals: Iterable[dict[str, Any]] = (), policies: Iterable[dict[str, Any]] = ()
) -> RequestRow:
    """Return the row of a raw AccessRequest, with the raw AccessApprovals and AccessPolicies of its namespace."""
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    ready = conditions.get("Ready") or {}
    subject = spec["subject"]
    prefix = f"{SERVICE_ACCOUNT_PREFIX}{subject.get('namespace')}:" if subject["kind"] == "ServiceAccount" else ""
    user = prefix + subject["name"]
    decisions = [
        parse_access_approval(each) for each in approvals if each["spec"]["requestRef"]["uid"] == metadata["uid"]
    ]
    others = [each for each in decisions if not each.is_deleted and each.by not in ("", user, spec.get("requester"))]
    state, approved_by = _decide(others, [parse_access_policy(each) for each in policies] if others else [])
    return RequestRow(
        namespace=metadata["namespace"],
        name=metadata["name"],
        subject=user,
        connector=spec["connectorRef"]["name"],
        duration=spec.get("duration") or "",
        state=ready.get("reason") or state,
        until=status.get("expirationTime") or "",
        approved_by=tuple(status.get("approvedBy") or approved_by),
        reason=spec.get("reason") or "",
        message=ready.get("message") or "",
        is_ready=ready.get("status", str(state == "Approved")) == "True",
    )


def _decide(approvals: list[AccessApproval], policies: list[AccessPolicy]) -> tuple[str, tuple[str, ...]]:
    """Return the state by the decisions of others, and who approved.

    The policy of the first approval that counts judges the request.
    """
    by_uid = {each.uid: each for each in policies if not each.is_deleted and not each.problems}
    counted: list[tuple[AccessApproval, ApprovalRule]] = []
    for approval in sorted(approvals, key=lambda each: (each.created_at, each.uid)):
        policy = by_uid.get(approval.policy_uid)
        rule = policy.approval if policy is not None else None
        if rule is not None and (
            rule.service_accounts_may_approve or not approval.by.startswith(SERVICE_ACCOUNT_PREFIX)
        ):
            counted.append((approval, rule))
    if any(not approval.is_approved for approval, _ in counted):
        return "Denied", ()
    if not counted:
        return PENDING, ()
    judge, required = counted[0][0].policy_uid, counted[0][1].required
    approvers = tuple(dict.fromkeys(each.by for each, _ in counted if each.policy_uid == judge))
    return ("Approved", approvers[:required]) if len(approvers) >= required else (PENDING, ())
