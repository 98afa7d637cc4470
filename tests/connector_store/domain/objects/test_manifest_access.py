"""Parsing of access policies, requests, approvals and locks: what they mean, and what grants nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessLock,
    AccessPolicy,
    AccessRequest,
    ApprovalRule,
    Namespace,
    PodMount,
    PodReference,
    TaskCheck,
)
from connector_store.domain.objects.manifest_access import (
    MAX_DURATION,
    parse_access_approval,
    parse_access_lock,
    parse_access_policy,
    parse_access_request,
    parse_namespace,
)
from connector_store.domain.permissions.permissions import RoleEntry

CORPUS = Path(__file__).parents[3] / "cluster" / "deploy" / "corpus" / "access.yaml"
KEY = ObjectKey("team-a", "a")
CREATED = "2026-01-02T03:04:05Z"
CREATED_AT = 1767323045.0
Spec = dict[str, Any]


def raw(spec: Any, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "team-a", "name": "a", "uid": "u", "creationTimestamp": CREATED} | metadata,
            "spec": spec}  # fmt: skip


def test_a_policy_of_the_other_product_for_service_accounts() -> None:
    policy, pipeline, named, custom, request = (
        (parse_access_request if each["kind"] == "AccessRequest" else parse_access_policy)(
            each | {"metadata": each["metadata"] | {"creationTimestamp": CREATED}}, default_namespace="team-a"
        )
        for each in yaml.safe_load_all(CORPUS.read_text())
    )
    assert isinstance(policy, AccessPolicy)
    assert isinstance(pipeline, AccessPolicy)
    assert isinstance(named, AccessPolicy)
    assert isinstance(custom, AccessPolicy)
    assert policy.problems == ()
    assert policy.approval is None
    labels = {"environment": "production", "tier": "gold"}
    assert policy.connector.matches("harbor", labels)
    assert not policy.connector.matches("harbor", {})
    first, everyone = policy.accounts
    assert first.names == {"ci"}
    assert first.namespaces.names == {"team-a"}
    assert everyone.names == frozenset()
    assert everyone.namespaces.is_empty
    assert pipeline.problems == ()
    assert (pipeline.task_check, pipeline.approval) == (TaskCheck(), ApprovalRule())
    assert (named.problems, custom.task_check) == ((), None)
    assert named.task_check == TaskCheck(approvers=frozenset({"alice", "group:ops-leads"}))
    assert named.approval == ApprovalRule(required=2)
    assert custom.problems == (
        "spec.checkGrantedPermission.spec.roleTemplate is not supported; name one of: "
        "connectors-use-connectors-proxy, connectors-use-connectors-proxy-in-pod",
        "spec.checkGrantedPermission.spec.checks[0] is not supported; keep one check, with the ref "
        "connectors-approvals-in-pipeline",
    )
    assert isinstance(request, AccessRequest)
    assert request.subject == "system:serviceaccount:team-a:ci"
    assert request.requester == ""
    assert request.pod == PodReference(key=ObjectKey("team-a", "run-1-build-pod"))


def test_an_approval_rule() -> None:
    spec = {"required": 2, "maxDuration": "1h30m", "requireReason": True, "serviceAccountsMayApprove": True}
    policy = parse_access_policy(raw({"approval": spec}))
    assert policy.approval == ApprovalRule(
        required=2, max_duration=5400.0, requires_reason=True, service_accounts_may_approve=True
    )
    assert policy.key == KEY
    assert policy.uid == "u"
    assert not policy.is_deleted
    assert parse_access_policy(raw({"approval": {}})).approval == ApprovalRule()
    assert parse_access_policy(raw({"approval": {}}, deletionTimestamp=CREATED)).is_deleted


PIPELINE: Spec = {"name": "approved", "ref": {"configMap": {"name": "connectors-approvals-in-pipeline"}}}


def checks(*checks: Spec) -> Spec:
    return {"checkGrantedPermission": {"spec": {"checks": list(checks)}}}


def with_params(*params: Spec) -> Spec:
    return checks(PIPELINE | {"params": list(params)})


def test_a_check_needs_as_many_approvals_as_the_stricter_field_says() -> None:
    for required, number, expected in ((1, "3", 3), (4, "3", 4)):
        params = with_params({"name": "numberOfApprovalsRequired", "value": number})
        policy = parse_access_policy(raw({"approval": {"required": required, "maxDuration": "1h"}} | params))
        assert policy.approval == ApprovalRule(required=expected, max_duration=3600.0)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (5, "spec: is not an object"),
        ({"approval": {"required": 0}}, "spec.approval.required: is not between 1 and 8"),
        ({"approval": {"required": 9}}, "spec.approval.required: is not between 1 and 8"),
        ({"approval": {"maxDuration": "10y"}}, "spec.approval.maxDuration: is not a duration"),
        ({"approval": {"maxDuration": "721h"}}, "spec.approval.maxDuration: is not a duration between 1s and 720h"),
        ({"approval": {"maxDuration": "0s"}}, "spec.approval.maxDuration: is not a duration between 1s and 720h"),
        ({"connector": {"names": "a"}}, "spec.connector.names: is not a list"),
        ({"defaultPermission": {"roleTemplate": {"ref": {"configMap": {"name": "own"}}}}}, "roleTemplate is not supp"),
        ({"defaultPermission": {"roleTemplate": {"inline": {}}}}, "roleTemplate is not supported"),
        (checks({"spec": {"state": {"rego": "x"}}}), "checks[0] is not supported; keep one check"),
        (checks({}), "checks[0] is not supported"),
        (checks({"ref": {"configMap": {"name": "own"}}}), "checks[0] is not supported"),
        (checks(PIPELINE, PIPELINE), "checks[1] is not supported"),
        (checks({}, PIPELINE), "checks[0] is not supported"),
        (checks(PIPELINE | {"spec": {"state": {"rego": "x"}}}), "checks[0] is not supported"),
        (with_params({"name": "aprovers", "value": ["joe"]}), "checks[0].params: are not approvers and number"),
        (with_params({"name": "approvers", "value": ["joe"]}, {"name": "approvers", "value": ["ann"]}), "at most once"),
        (with_params({"name": "approvers", "value": []}), "params[0].value: has no approver"),
        (with_params({"name": "approvers", "value": ["joe", ""]}), "params[0].value: has no approver"),
        (with_params({"name": "approvers"}), "params[0].value: has no approver"),
        (with_params({"name": "approvers", "value": "joe"}), "params[0].value: is not a list"),
        (with_params({"name": "numberOfApprovalsRequired", "value": "0"}), 'is not a number between "1" and "8"'),
        (with_params({"name": "numberOfApprovalsRequired", "value": "9"}), 'is not a number between "1" and "8"'),
        (with_params({"name": "numberOfApprovalsRequired", "value": "two"}), 'is not a number between "1" and "8"'),
        (with_params({"name": "numberOfApprovalsRequired"}), 'is not a number between "1" and "8"'),
        (with_params({"name": "numberOfApprovalsRequired", "value": 2}), "is not a string; put it in quotes"),
    ],
)  # fmt: skip
def test_a_policy_with_something_that_is_not_supported_says_so(spec: Any, problem: str) -> None:
    assert any(problem in each for each in parse_access_policy(raw(spec)).problems)


REQUEST: Spec = {
    "requester": "joe",
    "subject": {"kind": "User", "name": "jane"},
    "connectorRef": {"name": "prod"},
    "context": {
        "objectRef": {"kind": "Pod", "name": "p", "namespace": "ci", "uid": "p-1"},
        "mount": {"nodeName": "node-1", "podUID": "p-1"},
    },
    "duration": "1h",
    "reason": "INC-7",
    "permissions": {"allow": [{"clusterRole": "edit", "namespaces": ["web"]}]},
}


def test_a_request() -> None:
    assert parse_access_request(raw(REQUEST, deletionTimestamp=CREATED)) == AccessRequest(
        key=KEY,
        uid="u",
        requester="joe",
        subject="jane",
        connector="prod",
        pod=PodReference(key=ObjectKey("ci", "p"), uid="p-1", mount=PodMount("node-1", "p-1")),
        duration=3600.0,
        has_reason=True,
        roles=(RoleEntry(cluster_role="edit", namespaces=frozenset({"web"})),),
        created_at=CREATED_AT,
        is_deleted=True,
    )
    minimal = parse_access_request(raw({"subject": REQUEST["subject"], "connectorRef": {"name": "prod"}}))
    assert minimal == AccessRequest(key=KEY, uid="u", subject="jane", connector="prod", created_at=CREATED_AT)
    in_a_folder = parse_access_request(raw(REQUEST, creationTimestamp=None))
    assert in_a_folder.problem == "metadata.creationTimestamp: is not set; access requests need a cluster"


def test_the_labels_of_a_namespace() -> None:
    metadata = {"name": "ci", "labels": {"project": "a", "wrong": 1}}
    assert parse_namespace({"metadata": metadata}) == Namespace(name="ci", labels={"project": "a"})
    assert parse_namespace({"metadata": {"name": "ci", "labels": []}}) == Namespace(name="ci")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"subject": {"kind": "Group", "name": "g"}}, "spec.subject"),
        ({"subject": {"kind": "ServiceAccount", "name": "ci"}}, "spec.subject"),
        ({"subject": {"kind": "ServiceAccount", "name": "a:b", "namespace": "c"}}, "spec.subject"),
        ({"subject": {"kind": "ServiceAccount", "name": "a", "namespace": "c:d"}}, "spec.subject"),
        ({"subject": {"kind": "User", "name": "system:serviceaccount:a:b"}}, "spec.subject"),
        ({"subject": {"kind": "User", "name": "a", "namespace": "b"}}, "spec.subject"),
        ({"subject": None}, "spec.subject"),
        ({"connectorRef": {}}, "spec.connectorRef.name"),
        ({"connectorRef": {"name": "a/b"}}, "spec.connectorRef.name"),
        ({"context": {"objectRef": {"kind": "Job", "name": "a", "namespace": "b"}}}, "spec.context.objectRef.kind"),
        ({"context": {"objectRef": {"kind": "Pod", "name": "a/b"}}}, "spec.context.objectRef.name"),
        (
            {"context": {"objectRef": {"kind": "Pod", "name": "a", "namespace": "b"}, "mount": {"nodeName": "c"}}},
            "spec.context.mount",
        ),
        ({"duration": "0"}, "spec.duration"),
        ({"duration": "-1h"}, "spec.duration"),
        ({"duration": 5}, "spec.duration"),
        ({"permissions": {"allow": []}}, "spec.permissions.allow"),
        ({"permissions": {"deny": []}}, "spec.permissions"),
    ],
)
def test_a_request_that_cannot_be_parsed_has_a_problem_and_no_subject(change: Spec, path: str) -> None:
    request = parse_access_request(raw(REQUEST | change))
    assert request.problem.startswith(f"{path}: ")
    assert (request.subject, request.connector, request.key, request.uid) == ("", "", KEY, "u")


APPROVAL: Spec = {
    "requestRef": {"name": "r", "uid": "r-1"},
    "policyRef": {"name": "p", "uid": "p-1"},
    "by": "joe",
    "decision": "Approved",
    "comment": "fine",
}


def test_an_approval() -> None:
    approval = AccessApproval(
        key=KEY,
        uid="u",
        request_name="r",
        request_uid="r-1",
        policy_name="p",
        policy_uid="p-1",
        by="joe",
        is_approved=True,
        created_at=CREATED_AT,
    )
    assert parse_access_approval(raw(APPROVAL)) == approval
    assert parse_access_approval(raw(APPROVAL, deletionTimestamp=CREATED)).is_deleted
    task = {"namespace": "ci", "name": "run-approve", "uid": "t-1"}
    assert parse_access_approval(raw(APPROVAL | {"taskRef": task})) == replace(approval, is_from_task=True)


@pytest.mark.parametrize(
    "approval",
    [
        raw(APPROVAL | {"decision": "Denied"}),
        raw(APPROVAL | {"decision": "approved"}),
        raw(APPROVAL, creationTimestamp=None),
        raw(APPROVAL | {"requestRef": "r"}),
        raw([]),
    ],
    ids=["Denied", "another word", "no time of creation", "a reference that is a text", "a spec that is a list"],
)
def test_this_approves_nothing(approval: dict[str, Any]) -> None:
    assert not parse_access_approval(approval).is_approved


def test_a_lock() -> None:
    spec = {
        "subjects": [
            {"kind": "User", "name": "jane"},
            {"kind": "ServiceAccount", "name": "ci", "namespace": "team-a"},
            {"kind": "Group", "name": "contractors"},
        ],
        "connector": {"names": ["prod"], "secretNames": ["token"], "addresses": ["h:6443"]},
        "until": CREATED,
        "reason": "stolen laptop",
    }
    lock = parse_access_lock(raw(spec, deletionTimestamp=CREATED))
    assert lock == AccessLock(
        key=KEY,
        uid="u",
        users=frozenset({"jane", "system:serviceaccount:team-a:ci"}),
        groups=frozenset({"contractors"}),
        connector=lock.connector,
        secret_names=frozenset({"token"}),
        addresses=frozenset({"h:6443"}),
        until=CREATED_AT,
        reason="stolen laptop",
    )
    assert lock.connector.names == {"prod"}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"until": "tomorrow"}, "spec.until"),
        ({"subjects": [{"kind": "Group"}]}, "spec.subjects[0].name"),
        ({"subjects": [{"kind": "Team", "name": "a"}]}, "spec.subjects[0]"),
        ({"subjects": {}}, "spec.subjects"),
        (5, "spec"),
    ],
)
def test_a_lock_that_cannot_be_parsed_locks_everything(spec: Any, path: str) -> None:
    lock = parse_access_lock(raw(spec))
    assert lock.problem.startswith(f"{path}: ")
    assert lock == AccessLock(key=KEY, uid="u", problem=lock.problem)


PARSERS = (parse_access_policy, parse_access_request, parse_access_approval, parse_access_lock)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(
        st.sampled_from(["subject", "kind", "name", "namespace", "connectorRef", "context", "objectRef", "duration",
                         "mount", "approval", "connector", "checkGrantedPermission", "spec", "checks", "until",
                         "subjects", "permissions", "allow", "requestRef", "defaultPermission", "params", "value"]),
        each, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(spec=JSON)
def test_every_spec_is_parsed_without_an_error(spec: Any) -> None:
    for parse in PARSERS:
        assert parse(raw(spec)).key == KEY


@given(duration=st.text(max_size=8) | st.integers().map(lambda number: f"{number}h"))
def test_every_duration_of_a_request_is_within_the_limits(duration: str) -> None:
    parsed = parse_access_request(raw(REQUEST | {"duration": duration})).duration
    assert parsed is None or 1 <= parsed <= MAX_DURATION


@pytest.mark.parametrize("parse", PARSERS)
def test_an_object_without_a_name_is_an_error(parse: Any) -> None:
    with pytest.raises(ParseError):
        parse({"metadata": {"namespace": "a"}, "spec": {}})
