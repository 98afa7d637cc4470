"""Admission policies for access objects, and the time since which they are in force, as the controller publishes it.

The controller writes the time to a ConfigMap in the system namespace after it has proved that the API server refuses
forged objects. Without it, no request is approved.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from connector_store.domain.base.rfc3339 import parse_time

ADMISSION_CONFIG_MAP: Final = "connectors-admission"
ENFORCED_SINCE: Final = "enforced-since"
"""Key with the time, as in 2026-01-31T18:00:00Z. It is the API server's."""
REASON: Final = "reason"
"""Key that says why the policies are not in force, or why the time began again."""
POLICY_VERSIONS: Final = "policy-versions"
"""Key with the versions of the policies and bindings that were proved last. Only the controller reads it."""

ADMISSION_POLICIES: Final = tuple(
    f"{plural}.connectors.alauda.io"
    for plural in ("accessapprovals", "accesslocks", "accesspolicies", "accessrequests")
)
"""Names of the policies, and of their bindings."""

TASK_POLICIES: Final = ("approvaltasks.connectors.alauda.io",)
"""Name of the optional policy for Tekton's ApprovalTasks, and of its binding."""
TASKS_ENFORCED_SINCE: Final = "approval-tasks-enforced-since"
"""Key with the time since which ApprovalTasks count. Only the controller reads it."""


def parse_enforced_since(config_map: Mapping[str, object] | None, key: str = ENFORCED_SINCE) -> float | None:
    """Return the time in Unix seconds, or None if the ConfigMap does not exist or has no valid time."""
    data = config_map.get("data") if config_map is not None else None
    return parse_time(data.get(key)) if isinstance(data, Mapping) else None


def format_policy_versions(policies: Iterable[Mapping[str, Any]]) -> str:
    """Return one line `KIND NAME UID GENERATION` for each policy and binding.

    A new UID shows that an object was deleted and created again. The generation counts the changes of the spec.
    """
    return "\n".join(
        f"{each['kind']} {metadata['name']} {metadata['uid']} {metadata.get('generation', 0)}"
        for each in policies
        for metadata in (each["metadata"],)
    )


def find_changed_policies(previous: str, current: str) -> list[str]:
    """Return `KIND NAME` of each policy and binding whose version is not among the previous ones."""
    previous_lines = set(previous.splitlines())
    return [line.rsplit(" ", 2)[0] for line in current.splitlines() if line not in previous_lines]


def find_exemption(policy: Mapping[str, Any]) -> str | None:
    """Return what exempts some objects from a policy, or None. Proofs do not find it, because they try few objects.

    `policy` is a raw ValidatingAdmissionPolicy or its binding.
    """
    spec = policy["spec"]
    if policy["kind"].endswith("Binding"):
        if "Deny" not in spec.get("validationActions", ()):
            return "spec.validationActions without Deny"
        if spec.get("policyName") != policy["metadata"]["name"]:
            return "another spec.policyName"
        return next((f"spec.{field}" for field in ("matchResources", "paramRef") if spec.get(field)), None)
    if spec.get("failurePolicy", "Fail") != "Fail":
        return "spec.failurePolicy"
    constraints = spec.get("matchConstraints", {})
    fields = ("namespaceSelector", "objectSelector", "excludeResourceRules")
    return next((f"spec.matchConstraints.{field}" for field in fields if constraints.get(field)), None)
