"""Which approvals make a grant of a request, when it begins and when it ends."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.label_selector import ObjectSelector
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.grants.access_grant import (
    PENDING_LIFETIME,
    AccessGrant,
    Moment,
    NotGranted,
    judge_request,
)
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessPolicy,
    AccessRequest,
    ApprovalRule,
    PodReference,
    TaskCheck,
)
from connector_store.domain.objects.models import Connector
from connector_store.domain.permissions.permissions import RoleEntry
from tests.connector_store.domain.grants.access_objects import (
    APPROVAL,
    CI,
    CONNECTOR,
    EDIT,
    JANE,
    NAMESPACE,
    NOW,
    POLICY,
    REQUEST,
    in_pod,
)

Judgement = AccessGrant | NotGranted


def judge(
    request: AccessRequest = REQUEST,
    approvals: Sequence[AccessApproval] = (APPROVAL,),
    policies: Sequence[AccessPolicy] = (POLICY,),
    connector: Connector | None = CONNECTOR,
    enforced_since: float | None = 0.0,
) -> Judgement:
    by_name = {policy.key.name: policy for policy in policies}
    return judge_request(request, approvals, by_name.get, connector, enforced_since=enforced_since)


def approval(uid: str, **changes: Any) -> AccessApproval:
    return replace(APPROVAL, key=ObjectKey(NAMESPACE, uid), uid=uid, **changes)


def rule(**changes: Any) -> AccessPolicy:
    return replace(POLICY, approval=replace(POLICY.approval or ApprovalRule(), **changes))


def test_a_grant_has_the_time_of_the_approval_and_the_duration_of_the_request() -> None:
    grant = judge()
    assert grant == AccessGrant(
        request=REQUEST.key,
        request_uid="r-1",
        policy="on-call",
        approved_by=("joe",),
        approval_uid="a-1",
        pod_uid="",
        started_at=NOW,
        duration=3600.0,
    )
    assert grant.ends_at == NOW + 3600


NO_PERMISSIONS = replace(CONNECTOR, permissions=None)
STRONG = replace(POLICY, key=ObjectKey(NAMESPACE, "strong"), uid="p-2", approval=ApprovalRule(max_duration=90000.0))
FOR_STRONG = approval("a-2", policy_name="strong", policy_uid="p-2", by="sue", created_at=NOW + 1)
POD = PodReference(key=ObjectKey("ci", "p"), uid="pod-1")

CHECKED = replace(POLICY, task_check=TaskCheck())
IN_POD = replace(REQUEST, pod=POD)

NOT_GRANTED: list[tuple[str, dict[str, Any], str]] = [
    ("no approval", {"approvals": []}, "Pending"),
    ("no Connector", {"connector": None}, "ConnectorNotFound"),
    ("a Connector that is being deleted", {"connector": replace(CONNECTOR, is_deleted=True)}, "ConnectorNotFound"),
    ("a Connector made again after the approval", {"connector": replace(CONNECTOR, created_at=NOW + 1)}, "Pending"),
    ("a request that is being deleted", {"request": replace(REQUEST, is_deleted=True)}, "Deleted"),
    ("a request that cannot be parsed", {"request": replace(REQUEST, problem="spec.subject: bad")}, "Invalid"),
    ("a request made again under the same name", {"request": replace(REQUEST, uid="r-2")}, "Pending"),
    ("a request without requester", {"request": replace(REQUEST, requester="")}, "RequesterNotSet"),
    ("a pod whose uid is not known", {"request": replace(REQUEST, pod=replace(POD, uid=""))}, "PodNotSet"),
    ("longer than the policy allows", {"request": replace(REQUEST, duration=7201.0)}, "TooLong"),
    ("admission that is not in force", {"enforced_since": None}, "NotEnforced"),
    ("a request older than the admission", {"enforced_since": NOW - 59}, "NotEnforced"),
    ("an approval older than the admission", {
        "request": replace(REQUEST, created_at=NOW + 2), "enforced_since": NOW + 1}, "Pending"),
    ("an approval by the requester", {"approvals": [approval("a", by="jane")]}, "Pending"),
    ("an approval by the subject", {
        "request": replace(REQUEST, requester="boss", subject="jane"), "approvals": [approval("a", by="jane")]},
        "Pending"),
    ("an approval by the requester for another", {
        "request": replace(REQUEST, requester="joe", subject="jane")}, "Pending"),
    ("an approval without a name", {"approvals": [approval("a", by="")]}, "Pending"),
    ("an approval by a ServiceAccount", {"approvals": [approval("a", by=CI)]}, "Pending"),
    ("an approval that is being deleted", {"approvals": [approval("a", is_deleted=True)]}, "Pending"),
    ("an approval after the day of a request", {
        "approvals": [approval("a", created_at=REQUEST.created_at + PENDING_LIFETIME + 1)]}, "Pending"),
    ("a denial", {"approvals": [approval("a", is_approved=False)]}, "Denied"),
    ("an approval and a denial by another", {
        "approvals": [APPROVAL, approval("b", by="sue", is_approved=False)]}, "Denied"),
    ("a denial for another policy of the Connector", {
        "approvals": [APPROVAL, replace(FOR_STRONG, is_approved=False)], "policies": [POLICY, STRONG]}, "Denied"),
    ("an approval by a user for a policy with a check", {"request": IN_POD, "policies": [CHECKED]}, "Pending"),
    ("an approval by a task for a policy without a check", {
        "request": IN_POD, "approvals": [approval("a", is_from_task=True)]}, "Pending"),
    ("an approval by a task for a request without a pod", {
        "approvals": [approval("a", is_from_task=True)], "policies": [CHECKED]}, "Pending"),
    ("an approval by a task for permissions that its approvers did not see", {
        "request": replace(IN_POD, roles=(EDIT,)), "approvals": [approval("a", is_from_task=True)],
        "policies": [CHECKED]}, "Pending"),
    ("an approval by a task in the name of the requester", {
        "request": IN_POD, "approvals": [approval("a", is_from_task=True, by="jane")], "policies": [CHECKED]},
        "Pending"),
    ("a denial by a user for a policy with a check", {
        "request": IN_POD, "approvals": [approval("a", is_from_task=True), approval("b", by="sue", is_approved=False)],
        "policies": [CHECKED]}, "Denied"),
    ("no policy", {"policies": []}, "Pending"),
    ("a policy made again under the same name", {"policies": [replace(POLICY, uid="p-9")]}, "Pending"),
    ("a policy that is being deleted", {"policies": [replace(POLICY, is_deleted=True)]}, "Pending"),
    ("a policy with a check that does not run", {"policies": [replace(POLICY, problems=("x",))]}, "PolicyNotSupported"),
    ("an approval of another request for a policy that is not supported", {
        "request": replace(REQUEST, uid="r-2"), "policies": [replace(POLICY, problems=("x",))]}, "Pending"),
    ("an approval for an earlier policy of the same name as one that is not supported", {
        "policies": [replace(POLICY, uid="p-9", problems=("x",))]}, "Pending"),
    ("a policy that judges no requests", {"policies": [replace(POLICY, approval=None)]}, "Pending"),
    ("a policy for other Connectors", {
        "policies": [replace(POLICY, connector=ObjectSelector(names=frozenset({"other"})))]}, "Pending"),
    ("a policy for other labels", {
        "policies": [replace(POLICY, connector=ObjectSelector(labels=(("env", "dev"),)))]}, "Pending"),
    ("a reason that is required", {
        "request": replace(REQUEST, has_reason=False), "policies": [rule(requires_reason=True)]}, "ReasonMissing"),
    ("one of two approvals", {"policies": [rule(required=2)]}, "Pending"),
    ("two approvals by one approver", {
        "approvals": [APPROVAL, approval("a-2", created_at=NOW + 5)], "policies": [rule(required=2)]}, "Pending"),
    ("an approval for each of two policies that need two", {
        "approvals": [APPROVAL, FOR_STRONG],
        "policies": [rule(required=2), replace(STRONG, approval=ApprovalRule(required=2))]}, "Pending"),
    ("the weak policy's approver with the strong policy's duration", {
        "request": replace(REQUEST, duration=80000.0),
        "approvals": [APPROVAL, FOR_STRONG], "policies": [POLICY, STRONG]}, "TooLong"),
    ("permissions that the Connector does not offer", {
        "request": replace(REQUEST, roles=(RoleEntry(cluster_role="cluster-admin"),))}, "NotOffered"),
    ("permissions of a Connector that offers none", {
        "request": replace(REQUEST, roles=(EDIT,)), "connector": NO_PERMISSIONS}, "NotOffered"),
    ("an offered role in all namespaces instead of two", {
        "request": replace(REQUEST, roles=(RoleEntry(cluster_role="edit"),))}, "NotOffered"),
    ("an offered role in another namespace", {
        "request": replace(REQUEST, roles=(replace(EDIT, namespaces=frozenset({"web", "kube-system"})),))},
        "NotOffered"),
    ("one offered and one other role", {
        "request": replace(REQUEST, roles=(EDIT, RoleEntry(cluster_role="admin")))}, "NotOffered"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), [pytest.param(*each, id=name) for name, *each in NOT_GRANTED])
def test_this_grants_nothing(change: dict[str, Any], reason: str) -> None:
    judgement = judge(**change)
    assert isinstance(judgement, NotGranted), judgement
    assert judgement.reason == reason
    assert judgement.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"approvals": []}, "no approval counts yet", id="none"),
        pytest.param({"policies": [rule(required=2)]}, "1 of 2 approvals count so far", id="too few"),
    ],
)
def test_a_request_that_waits_names_the_next_step(change: dict[str, Any], message: str) -> None:
    judgement = judge(**change)
    assert isinstance(judgement, NotGranted)
    assert judgement.message == f"{message}; decide with: connectorctl approve {REQUEST.key}"


GRANTED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("no duration: that of the policy", {"request": replace(REQUEST, duration=None)}, {"duration": 7200.0}),
    ("two approvals: it begins with the second", {
        "approvals": [approval("b", by="sue", created_at=NOW + 30), APPROVAL], "policies": [rule(required=2)]},
        {"approved_by": ("joe", "sue"), "started_at": NOW + 30, "approval_uid": "b"}),
    ("two approvals in one second: each is the approver's own", {
        "approvals": [approval("b", by="sue"), APPROVAL], "policies": [rule(required=2)]},
        {"approved_by": ("joe", "sue"), "started_at": NOW, "approval_uid": "b"}),
    ("two approvals in one second, of which one is needed", {
        "approvals": [approval("b", by="sue"), APPROVAL]}, {"approved_by": ("joe",), "approval_uid": "a-1"}),
    ("a third approval does not prolong it", {
        "approvals": [APPROVAL, approval("b", by="sue", created_at=NOW + 900)]}, {"started_at": NOW}),
    ("two policies: the first approval's judges", {
        "approvals": [FOR_STRONG, APPROVAL], "policies": [POLICY, STRONG]},
        {"policy": "on-call", "approved_by": ("joe",)}),
    ("a ServiceAccount where the policy says so", {
        "approvals": [approval("a", by=CI)], "policies": [rule(service_accounts_may_approve=True)]},
        {"approved_by": (CI,)}),
    ("a denial by the requester does not count", {
        "approvals": [APPROVAL, approval("b", by="jane", is_approved=False)]}, {"approved_by": ("joe",)}),
    ("a denial that was deleted does not count", {
        "approvals": [APPROVAL, approval("b", by="sue", is_approved=False, is_deleted=True)]}, {}),
    ("offered permissions", {
        "request": replace(REQUEST, roles=(EDIT, RoleEntry(cluster_role="logs")))},
        {"roles": (EDIT, RoleEntry(cluster_role="logs"))}),
    ("a role that is offered everywhere, in one namespace", {
        "request": replace(REQUEST, roles=(RoleEntry(cluster_role="logs", namespaces=frozenset({"a"})),))}, {}),
    ("a pod", {"request": replace(REQUEST, pod=POD)}, {"pod_uid": "pod-1"}),
    ("a Connector made in the second of the approval", {"connector": replace(CONNECTOR, created_at=NOW)}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "fields"), [pytest.param(*each, id=name) for name, *each in GRANTED])
def test_this_is_granted(change: dict[str, Any], fields: dict[str, Any]) -> None:
    judgement = judge(**change)
    assert isinstance(judgement, AccessGrant), judgement
    assert {name: getattr(judgement, name) for name in fields} == fields


def test_a_grant_for_a_pod_is_for_tokens_that_are_bound_to_it() -> None:
    bound, free = judge(replace(REQUEST, pod=POD)), judge()
    assert isinstance(bound, AccessGrant)
    assert isinstance(free, AccessGrant)
    assert [bound.is_for(each) for each in (in_pod("pod-1"), in_pod("pod-2"), JANE)] == [True, False, False]
    assert free.is_for(JANE)
    assert free.is_for(in_pod("pod-2"))


@given(server=st.floats(NOW - 1e5, NOW + 1e5), boot=st.floats(0, 1e5), first_seen_at=st.floats(0, 1e5))
def test_no_clock_alone_prolongs_a_grant(server: float, boot: float, first_seen_at: float) -> None:
    grant = judge()
    assert isinstance(grant, AccessGrant)
    remaining = grant.remaining(Moment(server, boot), first_seen_at)
    assert remaining <= NOW + 3600 - server
    assert remaining <= first_seen_at + 3600 - boot


APPROVERS = st.sampled_from(["jane", "joe", "sue", CI, ""])
APPROVALS = st.lists(
    st.builds(
        approval,
        uid=st.uuids().map(str),
        by=APPROVERS,
        is_approved=st.sampled_from([True, True, True, False]),
        is_deleted=st.sampled_from([False, False, True]),
        policy_uid=st.sampled_from(["p-1", "p-1", "p-9"]),
        request_uid=st.sampled_from(["r-1", "r-1", "r-9"]),
        created_at=st.integers(0, 2000).map(lambda seconds: NOW + seconds),
    ),
    max_size=6,
)


@given(approvals=APPROVALS, required=st.integers(1, 3), seed=st.randoms())
def test_for_every_set_of_approvals_a_grant_has_enough_other_people_and_no_denial(
    approvals: list[AccessApproval], required: int, seed: Any
) -> None:
    judgement = judge(approvals=approvals, policies=[rule(required=required)])
    shuffled = list(approvals)
    seed.shuffle(shuffled)
    assert judge(approvals=shuffled, policies=[rule(required=required)]) == judgement
    if isinstance(judgement, AccessGrant):
        valid = [
            each
            for each in approvals
            if each.by in ("joe", "sue")
            and (each.policy_uid, each.request_uid, each.is_deleted) == ("p-1", "r-1", False)
        ]
        assert all(each.is_approved for each in valid)
        assert len(set(judgement.approved_by)) == required
        assert set(judgement.approved_by) <= {each.by for each in valid}
        assert judgement.started_at in {each.created_at for each in valid}
