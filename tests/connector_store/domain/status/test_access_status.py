"""Status of access requests and policies."""

from dataclasses import replace
from typing import get_args

import pytest

from connector_store.domain.base.label_selector import ObjectSelector
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.grants.access_grant import (
    PENDING_LIFETIME,
    AccessGrant,
    NotGranted,
    NotGrantedReason,
    judge_request,
)
from connector_store.domain.objects.access_objects import PodReference, TaskCheck
from connector_store.domain.permissions.permissions import RoleEntry
from connector_store.domain.status.access_status import (
    APPROVED,
    CONTEXT_OBJECT_VALID,
    FINISHED_LIFETIME,
    POLICY_MATCHED,
    TOO_MANY_PENDING,
    WIDE_OPEN,
    assess_policy,
    assess_request,
    next_check_at,
    refuse_surplus,
    removable_at,
)
from connector_store.domain.status.status import CONDITION_READY
from tests.connector_store.domain.grants.access_objects import APPROVAL, CONNECTOR, NOW, POLICY, REQUEST


def granted() -> AccessGrant:
    grant = judge_request(REQUEST, [APPROVAL], {"on-call": POLICY}.get, CONNECTOR, enforced_since=0.0)
    assert isinstance(grant, AccessGrant)
    return grant


GRANT = granted()


def test_an_approved_request_has_its_times_and_approvers() -> None:
    assessment = assess_request(REQUEST, GRANT, is_decided=True, now=NOW)
    assert [each.holds for each in assessment.conditions.values()] == [True] * 4
    assert assessment.conditions[CONDITION_READY].reason == "Approved"
    assert assessment.conditions[POLICY_MATCHED].message == "AccessPolicy on-call"
    assert assessment.state == "approved"
    assert assessment.fields == {
        "startTime": "1970-01-12T13:46:40Z",
        "expirationTime": "1970-01-12T14:46:40Z",
        "approvedBy": ["joe"],
    }


def test_access_that_has_ended_keeps_its_times() -> None:
    assessment = assess_request(REQUEST, GRANT, is_decided=True, now=GRANT.ends_at)
    assert assessment.conditions[CONDITION_READY].reason == "Ended"
    assert assessment.conditions[CONDITION_READY].holds is False
    assert assessment.conditions[APPROVED].holds is True
    assert (assessment.state, assessment.fields["approvedBy"]) == ("finished", ["joe"])


UNDECIDED = [
    pytest.param(CONNECTOR, REQUEST, id="a Connector"),
    pytest.param(None, REQUEST, id="no Connector"),
    pytest.param(replace(CONNECTOR, is_deleted=True), REQUEST, id="a Connector that is being deleted"),
    pytest.param(CONNECTOR, replace(REQUEST, roles=(RoleEntry(cluster_role="admin"),)), id="roles not offered"),
]


def test_a_request_without_a_place_is_finished_and_keeps_its_other_conditions() -> None:
    pending = assess_request(REQUEST, NotGranted("Pending", ""), is_decided=False, now=NOW)
    surplus = refuse_surplus(pending)
    assert (surplus.state, surplus.grant, surplus.fields) == ("finished", None, pending.fields)
    assert surplus.conditions[CONDITION_READY].reason == surplus.conditions[APPROVED].reason == TOO_MANY_PENDING
    assert surplus.conditions[CONDITION_READY].holds is False
    for kind in (CONTEXT_OBJECT_VALID, POLICY_MATCHED):
        assert surplus.conditions[kind] == pending.conditions[kind]


@pytest.mark.parametrize(("connector", "request_"), UNDECIDED)
@pytest.mark.parametrize("policies", [{}, {"on-call": POLICY}, {"on-call": replace(POLICY, problems=("x",))}])
def test_before_a_decision_the_status_does_not_tell_what_exists(connector, request_, policies) -> None:
    judgement = judge_request(request_, [], policies.get, connector, enforced_since=0.0)
    assessment = assess_request(request_, judgement, is_decided=False, now=NOW)
    expected = assess_request(REQUEST, NotGranted("Pending", "x"), is_decided=False, now=NOW)
    assert assessment == expected
    assert assessment.state == "pending"
    ready = assessment.conditions[CONDITION_READY]
    assert ready.message == "no approval counts yet; decide with: connectorctl approve team-a/r"
    assert assessment.fields == {"startTime": None, "expirationTime": None, "approvedBy": None}


@pytest.mark.parametrize("reason", get_args(NotGrantedReason))
def test_after_a_decision_the_reason_is_shown(reason: NotGrantedReason) -> None:
    conditions = assess_request(REQUEST, NotGranted(reason, "why"), is_decided=True, now=NOW).conditions
    ready = conditions[CONDITION_READY]
    assert (ready.holds, ready.reason, ready.message) == (False, reason, "why")
    assert conditions[APPROVED] == ready
    matched = {"Denied": True, "TooLong": True, "ReasonMissing": True, "PolicyNotSupported": False}
    assert conditions[POLICY_MATCHED].holds is matched.get(reason)


def test_a_request_that_waited_too_long_is_finished() -> None:
    now = REQUEST.created_at + PENDING_LIFETIME
    pending = NotGranted("Pending", "x")
    assert assess_request(REQUEST, pending, is_decided=False, now=now).state == "pending"
    late = assess_request(REQUEST, pending, is_decided=False, now=now + 1)
    assert (late.state, late.conditions[CONDITION_READY].reason) == ("finished", "NotApprovedInTime")
    denied = assess_request(REQUEST, NotGranted("Denied", "x"), is_decided=True, now=now + 1)
    assert denied.conditions[CONDITION_READY].reason == "Denied"


@pytest.mark.parametrize(
    ("pod", "holds", "reason"),
    [
        (None, True, "NoContextObject"),
        (PodReference(key=ObjectKey("ci", "p"), uid="pod-1"), True, ""),
        (PodReference(key=ObjectKey("ci", "p")), False, "PodNotSet"),
    ],
)
def test_the_condition_of_the_pod(pod: PodReference | None, holds: bool, reason: str) -> None:
    judgement = NotGranted("PodNotSet", "x")
    conditions = assess_request(replace(REQUEST, pod=pod), judgement, is_decided=False, now=NOW).conditions
    assert conditions[CONTEXT_OBJECT_VALID].holds is holds
    assert conditions[CONTEXT_OBJECT_VALID].reason == reason


def test_a_request_is_removable_a_day_after_its_end() -> None:
    pending_end = REQUEST.created_at + PENDING_LIFETIME
    assert removable_at(REQUEST, None, NOW) == pending_end + FINISHED_LIFETIME
    assert removable_at(REQUEST, GRANT, NOW) == GRANT.ends_at + FINISHED_LIFETIME
    # A grant of many days that was lost just now, by a policy that is gone for a moment, is kept.
    lost_at = NOW + 10 * PENDING_LIFETIME
    assert removable_at(REQUEST, None, lost_at) == lost_at + FINISHED_LIFETIME


def test_the_next_check_is_at_the_end_and_then_at_the_removal() -> None:
    end = GRANT.ends_at
    assert next_check_at(REQUEST, GRANT, NOW, NOW) == end
    assert next_check_at(REQUEST, GRANT, end, end) == end + FINISHED_LIFETIME
    assert next_check_at(REQUEST, GRANT, end, end + FINISHED_LIFETIME) is None
    assert next_check_at(REQUEST, None, NOW, NOW) == REQUEST.created_at + PENDING_LIFETIME


def test_a_policy_says_what_is_not_supported_and_that_it_is_wide_open() -> None:
    conditions = assess_policy(POLICY)
    assert conditions[CONDITION_READY].holds is True
    assert (conditions[WIDE_OPEN].holds, conditions[WIDE_OPEN].reason) == (True, "EmptySelector")
    narrow = replace(POLICY, connector=ObjectSelector(names=frozenset({"prod"})))
    assert assess_policy(narrow)[WIDE_OPEN].holds is False
    broken = assess_policy(replace(POLICY, problems=("spec.x is not supported",)))
    assert broken[CONDITION_READY].reason == "PolicyNotSupported"
    assert broken[CONDITION_READY].message == "the policy grants nothing: spec.x is not supported"
    assert broken[WIDE_OPEN].holds is False


def test_a_policy_says_why_its_check_does_not_run() -> None:
    checked = replace(POLICY, task_check=TaskCheck())
    ready = assess_policy(checked, "no rights; apply them")[CONDITION_READY]
    assert (ready.holds, ready.reason) == (False, "CheckNotRunning")
    assert ready.message == "spec.checkGrantedPermission.spec.checks[0] approves nothing: no rights; apply them"
    assert assess_policy(checked)[CONDITION_READY].holds is True
    assert assess_policy(POLICY, "no rights; apply them")[CONDITION_READY].holds is True
