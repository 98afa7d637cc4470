"""The time since which admission is in force, and the policies that it is about."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.grants.admission import (
    ADMISSION_POLICIES,
    find_changed_policies,
    find_exemption,
    format_policy_versions,
    parse_enforced_since,
)

SHIPPED = list(yaml.safe_load_all((Path(__file__).parents[4] / "deploy/policy/access.yaml").read_text()))
POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"


@pytest.mark.parametrize(
    ("config_map", "since"),
    [
        ({"data": {"enforced-since": "1970-01-01T00:01:00Z"}}, 60.0),
        ({"data": {"enforced-since": "yes"}}, None),
        ({"data": {"enforced-since": "1970-01-01T00:01:00"}}, None),
        ({"data": {}}, None),
        ({"data": "x"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_only_a_time_with_a_zone_counts(config_map: dict[str, object] | None, since: float | None) -> None:
    assert parse_enforced_since(config_map) == since


def policy(name: str, uid: str, generation: int, kind: str = POLICY) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "uid": uid, "generation": generation}}


@pytest.mark.parametrize(
    ("current", "changed"),
    [
        ([policy("a", "1", 1), policy("a", "2", 1, BINDING)], []),
        ([policy("a", "2", 1, BINDING), policy("a", "1", 1)], []),
        ([policy("a", "1", 2), policy("a", "2", 1, BINDING)], [f"{POLICY} a"]),
        ([policy("a", "1", 1), policy("a", "3", 1, BINDING)], [f"{BINDING} a"]),
        ([policy("a", "1", 1), policy("a", "2", 1, BINDING), policy("b", "4", 1)], [f"{POLICY} b"]),
    ],
    ids=["the same", "another order", "another generation", "another UID", "one more"],
)
def test_a_policy_with_another_uid_or_generation_has_changed(current: list[dict[str, Any]], changed: list[str]) -> None:
    previous = format_policy_versions([policy("a", "1", 1), policy("a", "2", 1, BINDING)])
    assert previous == f"{POLICY} a 1 1\n{BINDING} a 2 1"
    assert find_changed_policies(previous, format_policy_versions(current)) == changed


def test_the_shipped_policies_exempt_nothing_and_are_those_that_the_controller_reads() -> None:
    assert sorted((each["metadata"]["name"], each["kind"]) for each in SHIPPED) == [
        (name, kind) for name in ADMISSION_POLICIES for kind in (POLICY, BINDING)
    ]
    assert [find_exemption(each) for each in SHIPPED] == [None] * len(SHIPPED)


@pytest.mark.parametrize(
    ("kind", "change", "exemption"),
    [
        (BINDING, {"validationActions": ["Audit", "Warn"]}, "spec.validationActions without Deny"),
        (BINDING, {"validationActions": ["Deny", "Audit"]}, None),
        (BINDING, {"policyName": "b"}, "another spec.policyName"),
        (BINDING, {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}, "spec.matchResources"),
        (BINDING, {"paramRef": {"name": "a", "parameterNotFoundAction": "Allow"}}, "spec.paramRef"),
        (POLICY, {"failurePolicy": "Ignore"}, "spec.failurePolicy"),
        (POLICY, {"failurePolicy": "Fail"}, None),
        (POLICY, {"matchConstraints": {"namespaceSelector": {}, "objectSelector": {}}}, None),
        (POLICY, {"matchConstraints": {"objectSelector": {"matchLabels": {"a": "b"}}}},
         "spec.matchConstraints.objectSelector"),
        (POLICY, {"matchConstraints": {"namespaceSelector": {"matchLabels": {"a": "b"}}}},
         "spec.matchConstraints.namespaceSelector"),
        (POLICY, {"matchConstraints": {"excludeResourceRules": [{"apiGroups": ["*"]}]}},
         "spec.matchConstraints.excludeResourceRules"),
    ],
)  # fmt: skip
def test_a_policy_that_does_not_check_every_object_is_found(
    kind: str, change: dict[str, Any], exemption: str | None
) -> None:
    spec = {"policyName": "a", "validationActions": ["Deny"]} if kind == BINDING else {"validations": []}
    assert find_exemption({"kind": kind, "metadata": {"name": "a"}, "spec": spec | change}) == exemption
