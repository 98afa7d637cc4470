"""Judgement of what access requests need: the admission policies, the controller's proof, and the user's own rights.

Each function returns a detail for the user, or raises CheckFailedError. `cluster_checks` reads.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from connector_store.domain.grants.admission import ENFORCED_SINCE, REASON, parse_enforced_since
from connectorctl.diagnosis import CheckFailedError


def judge_admission_policies(
    expected: Collection[str], policies: Iterable[Mapping[str, Any]], bindings: Iterable[Mapping[str, Any]]
) -> str:
    """Each of the `expected` ValidatingAdmissionPolicies must fail closed, and must have a binding that denies."""
    failing_closed = {
        policy["metadata"]["name"] for policy in policies if policy["spec"].get("failurePolicy", "Fail") == "Fail"
    }
    denying = {
        binding["spec"].get("policyName")
        for binding in bindings
        if "Deny" in (binding["spec"].get("validationActions") or ())
    }
    missing = sorted(set(expected) - (failing_closed & denying))
    if missing:
        raise CheckFailedError(
            f"the API server does not enforce the admission policies {', '.join(missing)}",
            "apply deploy/policy, or the chart, of the version that runs",
        )
    return f"the API server has all {len(expected)} policies for access requests, approvals and locks"


def judge_admission_proof(config_map: Mapping[str, Any] | None) -> str:
    """The controller must have proved that the API server refuses forged objects. None stands for no result yet."""
    if config_map is None:
        raise CheckFailedError(
            "the controller has not tested the admission policies yet, so no access request is granted",
            "see that the controller runs, and read its log",
        )
    data = config_map.get("data") or {}
    if parse_enforced_since(config_map) is None:
        reason = data.get(REASON) or f"the key {ENFORCED_SINCE} is missing or invalid"
        raise CheckFailedError(
            f"no access request is granted, because {reason}",
            "apply deploy/policy, or the chart; the controller tests the policies again each minute",
        )
    return f"the API server refuses forged objects; requests and approvals since {data[ENFORCED_SINCE]} count"


def describe_own_rights(*, may_approve: bool, may_lock: bool) -> str:
    """Say what the user may do about access in all namespaces. A user may have the right in single namespaces only."""
    approve, lock = ("may" if is_allowed else "may not" for is_allowed in (may_approve, may_lock))
    return f"in all namespaces, you {approve} approve access requests, and you {lock} lock callers out"
