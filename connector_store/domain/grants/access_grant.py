"""Judgement of an access request: the grant that its approvals give, or the reason why they give none.

A request is judged by exactly one policy, that of its first approval. The grant begins with the last approval that the
policy needs, by the API server's clock, which wrote the time of creation. Everything is identified by UID, so a
successor of the same name does not inherit an approval. An object that is being deleted counts as deleted.

    judge_request(request, approvals, policies.get, connector, enforced_since=0.0)    -> AccessGrant or NotGranted
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX, Identity
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessPolicy,
    AccessRequest,
    ApprovalRule,
    PodReference,
)
from connector_store.domain.objects.models import Connector
from connector_store.domain.permissions.permissions import RoleEntry

PENDING_LIFETIME: Final = 24 * 3600.0
"""Seconds after the creation of a request in which it can be approved."""

NotGrantedReason = Literal[
    "Pending", "Denied", "Invalid", "Deleted", "NotEnforced", "PodNotSet", "RequesterNotSet", "TooLong",
    "ReasonMissing", "NotOffered", "ConnectorNotFound", "PolicyNotSupported",
]  # fmt: skip
"""Reasons for which a request grants nothing, as reasons of its condition Ready."""


class Moment(NamedTuple):
    """Moment on two clocks. Neither follows the node's clock."""

    server: float
    """Unix seconds of the API server's clock."""
    boot: float
    """Seconds of a clock that cannot be set, such as CLOCK_BOOTTIME."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessGrant:
    """Right of one caller to use one Connector for a while. It holds from the approval, so it has no beginning."""

    request: ObjectKey
    request_uid: str
    policy: str
    """Name of the policy that judged the request."""
    approved_by: tuple[str, ...]
    """User names of the approvers that the policy needed, in the order of their approvals."""
    approval_uid: str
    """UID of the last of these approvals."""
    pod_uid: str
    """UID of the pod that the caller's token must be bound to. Empty if any token of the caller will do."""
    started_at: float
    """Unix seconds of the API server's clock."""
    duration: float
    """Seconds."""
    roles: tuple[RoleEntry, ...] = ()
    """Roles to add to those that the Connector allows."""

    @property
    def ends_at(self) -> float:
        """Unix seconds of the API server's clock."""
        return self.started_at + self.duration

    def is_for(self, identity: Identity) -> bool:
        """Return True if the caller's token is bound to the pod of the grant, or if the grant has none."""
        return not self.pod_uid or identity.pod_uid == self.pod_uid

    def remaining(self, now: Moment, first_seen_at: float) -> float:
        """Return the seconds until the end, or 0 or less after it.

        `first_seen_at` is the boot time at which this process saw the approval first.
        """
        return min(self.ends_at - now.server, first_seen_at + self.duration - now.boot)


@dataclass(frozen=True, slots=True)
class NotGranted:
    """Reason why a request grants nothing. `message` is for people."""

    reason: NotGrantedReason
    message: str


def judge_request(
    request: AccessRequest,
    approvals: Iterable[AccessApproval],
    get_policy: Callable[[str], AccessPolicy | None],
    connector: Connector | None,
    *,
    enforced_since: float | None,
) -> AccessGrant | NotGranted:
    """Return the grant of a request. It may have ended.

    `approvals` are all that name the request. `get_policy` finds a policy of the request's namespace. Requests and
    approvals from before `enforced_since` never count, because the API server may have admitted forged ones. It is
    None while the admission policies are not in force.
    """
    approvals = sorted(approvals, key=lambda each: (each.created_at, each.uid))
    problem = _find_problem(request, connector, enforced_since)
    if problem is not None or connector is None or enforced_since is None:
        return problem or _NOT_FOUND
    counted = [
        (approval, policy)
        for approval in approvals
        if (policy := find_judge(request, approval, get_policy, connector)) is not None
        and approval.created_at >= enforced_since
        and approval.created_at <= request.created_at + PENDING_LIFETIME
    ]
    denial = next((approval for approval, _ in counted if not approval.is_approved), None)
    if denial is not None:
        return NotGranted("Denied", f"{denial.by} denied the request")
    if not counted:
        return _find_unsupported(request, approvals, get_policy) or describe_pending(request)
    judge = counted[0][1]
    return _grant(request, [approval for approval, policy in counted if policy is judge], judge)


_NOT_FOUND: Final = NotGranted("ConnectorNotFound", "the Connector does not exist; check spec.connectorRef.name")


def _find_problem(
    request: AccessRequest, connector: Connector | None, enforced_since: float | None
) -> NotGranted | None:
    if request.is_deleted:
        return NotGranted("Deleted", "the request is being deleted")
    if request.problem:
        return NotGranted("Invalid", request.problem)
    if enforced_since is None or request.created_at < enforced_since:
        message = "the admission policies were not in force, or have changed since; delete the request and ask again"
        return NotGranted("NotEnforced", message)
    if not request.requester:
        return NotGranted("RequesterNotSet", "spec.requester is empty; delete the request and ask again with it")
    if request.pod is not None and not request.pod.uid:
        return NotGranted("PodNotSet", describe_missing_pod(request.pod, request.subject))
    if connector is None or connector.is_deleted:
        return _NOT_FOUND
    if not is_offered(request.roles, connector):
        return NotGranted(
            "NotOffered",
            "spec.permissions asks for more than spec.permissions.onRequest of the Connector offers; ask for less",
        )
    return None


def describe_pending(request: AccessRequest, progress: str = "no approval counts yet") -> NotGranted:
    """Return the reason of a request that waits for approvals. `progress` says how many count."""
    return NotGranted("Pending", f"{progress}; decide with: connectorctl approve {request.key}")


def describe_missing_pod(reference: PodReference, subject: str) -> str:
    """Return why the UID of the pod is not set. The text does not tell whether the pod exists."""
    return (
        "spec.context.objectRef.uid is not set: the controller sets it when "
        f"pod {reference.key} exists and runs as {subject}"
    )


def is_offered(roles: Iterable[RoleEntry], connector: Connector) -> bool:
    """Return True if the Connector offers each of the roles, in at least the namespaces that are asked for."""
    offers = connector.permissions.on_request if connector.permissions is not None else ()
    return all(any(_covers(offer, role) for offer in offers) for role in roles)


def _covers(offer: RoleEntry, role: RoleEntry) -> bool:
    if offer.cluster_role != role.cluster_role:
        return False
    return offer.namespaces is None or (role.namespaces is not None and role.namespaces <= offer.namespaces)


def find_judge(
    request: AccessRequest,
    approval: AccessApproval,
    get_policy: Callable[[str], AccessPolicy | None],
    connector: Connector,
) -> AccessPolicy | None:
    """Return the policy for which an approval or denial counts, or None if it does not count.

    A Connector that is younger than the approval is another one of the same name.
    """
    if approval.is_deleted or approval.request_uid != request.uid or connector.created_at > approval.created_at:
        return None
    policy = get_policy(approval.policy_name)
    if policy is None or policy.uid != approval.policy_uid or not judges(policy, connector):
        return None
    if approval.is_approved and not _is_of_kind(approval, policy, request):
        return None
    return policy if may_decide(approval.by, request, policy) else None


def _is_of_kind(approval: AccessApproval, policy: AccessPolicy, request: AccessRequest) -> bool:
    """Return True if the approval is of the kind that the policy counts: by a check, or by users."""
    return approval.is_from_task == (policy.task_check is not None) and (
        not approval.is_from_task or is_checkable(request)
    )


def is_checkable(request: AccessRequest) -> bool:
    """Return True if a check can approve the request.

    Approvers of an ApprovalTask do not see the request, so it may ask for the use of the Connector in a pod only.
    """
    return request.pod is not None and bool(request.pod.uid) and not request.roles


def may_decide(user: str, request: AccessRequest, policy: AccessPolicy) -> bool:
    """Return True if decisions by the user count: the user neither asked nor gets the access.

    A ServiceAccount may decide if the policy says so.
    """
    if not user or user in (request.requester, request.subject):
        return False
    rule = policy.approval or ApprovalRule()
    return not user.startswith(SERVICE_ACCOUNT_PREFIX) or rule.service_accounts_may_approve


def _find_unsupported(
    request: AccessRequest, approvals: Iterable[AccessApproval], get_policy: Callable[[str], AccessPolicy | None]
) -> NotGranted | None:
    """Return why approvals do not count although they name the request, if their policy is not supported."""
    for approval in approvals:
        policy = get_policy(approval.policy_name)
        if policy is None or policy.uid != approval.policy_uid or approval.request_uid != request.uid:
            continue
        if policy.problems:
            message = f"AccessPolicy {policy.key.name} grants nothing: {'; '.join(policy.problems)}"
            return NotGranted("PolicyNotSupported", message)
    return None


def judges(policy: AccessPolicy, connector: Connector) -> bool:
    """Return True if requests for the Connector can be approved under the policy."""
    return policy.approval is not None and applies(policy, connector)


def applies(policy: AccessPolicy, connector: Connector) -> bool:
    """Return True if the policy is in effect for the Connector."""
    is_in_effect = not policy.is_deleted and not policy.problems
    return is_in_effect and policy.connector.matches(connector.key.name, connector.labels)


def _grant(request: AccessRequest, approvals: list[AccessApproval], judge: AccessPolicy) -> AccessGrant | NotGranted:
    """Return the grant by the fields of one policy. `approvals` are those for it, in the order of their creation."""
    rule = judge.approval or ApprovalRule()
    first_by_approver: dict[str, AccessApproval] = {}
    for approval in approvals:
        first_by_approver.setdefault(approval.by, approval)
    needed = list(first_by_approver.values())[: rule.required]
    if len(needed) < rule.required:
        return describe_pending(request, f"{len(needed)} of {rule.required} approvals count so far")
    duration = rule.max_duration if request.duration is None else request.duration
    if duration > rule.max_duration:
        return NotGranted(
            "TooLong", f"AccessPolicy {judge.key.name} allows at most {rule.max_duration:g} s; ask for less"
        )
    if rule.requires_reason and not request.has_reason:
        return NotGranted("ReasonMissing", f"AccessPolicy {judge.key.name} requires spec.reason; ask again with it")
    return AccessGrant(
        request=request.key,
        request_uid=request.uid,
        policy=judge.key.name,
        approved_by=tuple(approval.by for approval in needed),
        approval_uid=needed[-1].uid,
        pod_uid=request.pod.uid if request.pod is not None else "",
        started_at=needed[-1].created_at,
        duration=duration,
        roles=request.roles,
    )
