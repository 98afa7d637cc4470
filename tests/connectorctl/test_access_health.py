"""Judgement of what access requests need."""

from typing import Any

import pytest

from connectorctl.access_health import describe_own_rights, judge_admission_policies, judge_admission_proof
from connectorctl.diagnosis import CheckFailedError

SINCE = "2026-01-31T18:00:00Z"


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def binding(name: str, *actions: str) -> dict[str, Any]:
    return {"spec": {"policyName": name, "validationActions": list(actions)}}


def test_policies_with_a_binding_that_denies_are_ok() -> None:
    policies = [policy("a"), policy("b", failurePolicy="Fail"), policy("other", failurePolicy="Ignore")]
    detail = judge_admission_policies({"a", "b"}, policies, [binding("a", "Deny"), binding("b", "Audit", "Deny")])
    assert detail == "the API server has all 2 policies for access requests, approvals and locks"


@pytest.mark.parametrize(
    ("policies", "bindings"),
    [
        pytest.param([], [binding("a", "Deny")], id="no policy"),
        pytest.param([policy("a")], [], id="no binding"),
        pytest.param([policy("a")], [binding("b", "Deny")], id="the binding of another policy"),
        pytest.param([policy("a")], [binding("a", "Warn", "Audit")], id="a binding that only warns"),
        pytest.param([policy("a")], [{"spec": {"policyName": "a"}}], id="a binding without actions"),
        pytest.param([policy("a", failurePolicy="Ignore")], [binding("a", "Deny")], id="a policy that fails open"),
    ],
)
def test_a_policy_that_is_not_in_force_is_named(policies: list[dict[str, Any]], bindings: list[dict[str, Any]]) -> None:
    with pytest.raises(CheckFailedError) as failure:
        judge_admission_policies({"a"}, policies, bindings)
    assert failure.value.detail == "the API server does not enforce the admission policies a"
    assert failure.value.next_step == "apply deploy/policy, or the chart, of the version that runs"


def test_a_proof_is_ok() -> None:
    detail = judge_admission_proof({"data": {"enforced-since": SINCE}})
    assert detail == f"the API server refuses forged objects; requests and approvals since {SINCE} count"


@pytest.mark.parametrize(
    ("config_map", "reason"),
    [
        pytest.param({"data": {"reason": "it is off"}}, "it is off", id="a proof that failed"),
        pytest.param({}, "the key enforced-since is missing or invalid", id="no data"),
        pytest.param({"data": {"enforced-since": "yes"}}, "the key enforced-since is missing or invalid",
                     id="an invalid time"),
    ],
)  # fmt: skip
def test_without_a_proof_nothing_is_granted(config_map: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckFailedError) as failure:
        judge_admission_proof(config_map)
    assert failure.value.detail == f"no access request is granted, because {reason}"
    assert failure.value.next_step.startswith("apply deploy/policy, or the chart")


def test_without_a_result_the_controller_is_to_blame() -> None:
    with pytest.raises(CheckFailedError) as failure:
        judge_admission_proof(None)
    assert failure.value.detail.startswith("the controller has not tested the admission policies yet")
    assert failure.value.next_step == "see that the controller runs, and read its log"


def test_own_rights_are_for_all_namespaces() -> None:
    detail = describe_own_rights(may_approve=True, may_lock=False)
    assert detail == "in all namespaces, you may approve access requests, and you may not lock callers out"
