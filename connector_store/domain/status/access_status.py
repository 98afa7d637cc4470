"""Status of an AccessRequest or an AccessPolicy. It is for people: proxies never read it.

Until another user decides, the status of a request depends on the request alone. It does not tell whether the Connector
or a policy exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from connector_store.domain.base import rfc3339
from connector_store.domain.base.label_selector import EVERYTHING
from connector_store.domain.grants.access_grant import (
    PENDING_LIFETIME,
    AccessGrant,
    NotGranted,
    describe_missing_pod,
    describe_pending,
)
from connector_store.domain.objects.access_objects import AccessPolicy, AccessRequest
from connector_store.domain.status.conditions import Assessment
from connector_store.domain.status.status import CONDITION_READY

CONTEXT_OBJECT_VALID: Final = "ContextObjectValid"
POLICY_MATCHED: Final = "AccessPolicyMatched"
APPROVED: Final = "Approved"
WIDE_OPEN: Final = "WideOpen"

FINISHED_LIFETIME: Final = 24 * 3600.0
"""Seconds for which a request stays after it has ended, or after it can no longer be approved."""

MAX_PENDING: Final = 20
"""Pending requests of one subject in one namespace that are shown as pending. Approvers need not look at others."""
TOO_MANY_PENDING: Final = "TooManyPending"

RequestState = Literal["pending", "approved", "finished"]

_HIDDEN_REASONS: Final = frozenset({"Pending", "ConnectorNotFound", "NotOffered"})
"""Reasons that tell something about Connectors and policies. Before a decision, all of them look like Pending."""
_PENDING_REASONS: Final = frozenset({"Pending", "PodNotSet"})
_JUDGED_REASONS: Final = frozenset({"Denied", "TooLong", "ReasonMissing"})
"""Reasons of a request that a policy has judged."""

_UNDECIDED: Final = Assessment(holds=None, reason="Pending", message="no approval counts yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAssessment:
    """Conditions, state and grant of a request. `grant` may have ended."""

    conditions: Mapping[str, Assessment]
    state: RequestState
    grant: AccessGrant | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of the status besides the conditions, for a merge patch."""
        grant = self.grant
        return {
            "startTime": rfc3339.format_unix_time(grant.started_at) if grant is not None else None,
            "expirationTime": rfc3339.format_unix_time(grant.ends_at) if grant is not None else None,
            "approvedBy": list(grant.approved_by) if grant is not None else None,
        }


def assess_request(
    request: AccessRequest, judgement: AccessGrant | NotGranted, *, is_decided: bool, now: float
) -> RequestAssessment:
    """Assess a request. `is_decided` is True if another user approved or denied it. `now` is in Unix seconds."""
    context = _assess_context(request)
    if isinstance(judgement, AccessGrant):
        is_over = judgement.ends_at <= now
        approved = Assessment(holds=True, reason="Approved", message=f"approved by {', '.join(judgement.approved_by)}")
        ended = Assessment(holds=False, reason="Ended", message="the access has ended; ask again if you need it")
        conditions = {
            CONTEXT_OBJECT_VALID: context,
            POLICY_MATCHED: Assessment(holds=True, message=f"AccessPolicy {judgement.policy}"),
            APPROVED: approved,
            CONDITION_READY: ended if is_over else approved,
        }
        return RequestAssessment(conditions=conditions, state="finished" if is_over else "approved", grant=judgement)
    reason = _explain(request, judgement, is_decided, now)
    approved = Assessment(holds=False, reason=reason.reason, message=reason.message)
    conditions = {
        CONTEXT_OBJECT_VALID: context,
        POLICY_MATCHED: _assess_policy_match(reason) if is_decided else _UNDECIDED,
        APPROVED: approved,
        CONDITION_READY: approved,
    }
    return RequestAssessment(
        conditions=conditions, state="pending" if reason.reason in _PENDING_REASONS else "finished"
    )


def refuse_surplus(assessment: RequestAssessment) -> RequestAssessment:
    """Return the assessment of a pending request whose subject has MAX_PENDING older ones.

    It is pending again when one of them is decided or deleted. An approval counts before that, too.
    """
    message = f"the subject has {MAX_PENDING} older pending requests in this namespace; cancel some"
    surplus = Assessment(holds=False, reason=TOO_MANY_PENDING, message=message)
    conditions = {**assessment.conditions, APPROVED: surplus, CONDITION_READY: surplus}
    return RequestAssessment(conditions=conditions, state="finished")


def _explain(request: AccessRequest, judgement: NotGranted, is_decided: bool, now: float) -> Assessment:
    if not is_decided and judgement.reason in _HIDDEN_REASONS:
        judgement = describe_pending(request)
    if judgement.reason in _PENDING_REASONS and now > request.created_at + PENDING_LIFETIME:
        message = f"not approved within {PENDING_LIFETIME / 3600:g} hours; delete the request and ask again"
        return Assessment(holds=False, reason="NotApprovedInTime", message=message)
    return Assessment(holds=False, reason=judgement.reason, message=judgement.message)


def _assess_context(request: AccessRequest) -> Assessment:
    if request.pod is None:
        return Assessment(holds=True, reason="NoContextObject", message="for all tokens of the subject")
    if not request.pod.uid:
        message = describe_missing_pod(request.pod, request.subject)
        return Assessment(holds=False, reason="PodNotSet", message=message)
    return Assessment(holds=True, message=f"for tokens that are bound to the pod {request.pod.key}")


def _assess_policy_match(reason: Assessment) -> Assessment:
    if reason.reason in _JUDGED_REASONS:
        return Assessment(holds=True)
    if reason.reason == "PolicyNotSupported":
        return Assessment(holds=False, reason=reason.reason, message=reason.message)
    return Assessment(holds=None, reason=reason.reason, message=reason.message)


def removable_at(request: AccessRequest, grant: AccessGrant | None, ready_since: float) -> float:
    """Return the time after which a finished request is deleted, in Unix seconds.

    `ready_since` is the time of the last change of its condition Ready. A grant that was lost is kept from then on.
    """
    end = grant.ends_at if grant is not None else request.created_at + PENDING_LIFETIME
    return max(end, ready_since) + FINISHED_LIFETIME


def next_check_at(request: AccessRequest, grant: AccessGrant | None, ready_since: float, now: float) -> float | None:
    """Return the time of the next change that only the clock makes, in Unix seconds."""
    end = grant.ends_at if grant is not None else request.created_at + PENDING_LIFETIME
    return min((each for each in (end, removable_at(request, grant, ready_since)) if each > now), default=None)


def assess_policy(policy: AccessPolicy, check_problem: str = "") -> Mapping[str, Assessment]:
    """Assess the conditions of a policy. `check_problem` says why no check of ApprovalTasks can run."""
    wide = Assessment(holds=True, reason="EmptySelector", message="spec.connector is empty: it is for every Connector")
    return {
        CONDITION_READY: _assess_ready(policy, check_problem),
        WIDE_OPEN: wide if policy.connector == EVERYTHING and not policy.problems else Assessment(holds=False),
    }


def _assess_ready(policy: AccessPolicy, check_problem: str) -> Assessment:
    if policy.problems:
        message = f"the policy grants nothing: {'; '.join(policy.problems)}"
        return Assessment(holds=False, reason="PolicyNotSupported", message=message)
    if policy.task_check is not None and check_problem:
        message = f"spec.checkGrantedPermission.spec.checks[0] approves nothing: {check_problem}"
        return Assessment(holds=False, reason="CheckNotRunning", message=message)
    return Assessment(holds=True)
