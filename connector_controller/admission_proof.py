"""Proof that the admission policies for access requests are in force, and the ConfigMap that tells the proxies.

Proxies trust fields of requests and approvals that only these policies check. The controller sends forged objects as
dry runs. The API server must refuse each of them by the policy that is for it, several times in a row. Then the
controller writes `enforced-since`, the API server's time after the proof. Objects that are older do not count. If a
forged object is admitted, the controller removes that time, and the proxies grant nothing.

The proof tries few objects, so the controller also compares each policy with the one of this release.

A proof says nothing about the time before it. Next to `enforced-since`, the controller stores the version of each
policy and binding. If one differs at the next proof, objects may have been created without it. The time begins again.
"""

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from connector_store.domain.base.rfc3339 import format_unix_time, parse_time
from connector_store.domain.grants.admission import (
    ADMISSION_CONFIG_MAP,
    ADMISSION_POLICIES,
    ENFORCED_SINCE,
    POLICY_VERSIONS,
    REASON,
    TASK_POLICIES,
    TASKS_ENFORCED_SINCE,
    find_changed_policies,
    find_exemption,
    format_policy_versions,
    parse_enforced_since,
)
from connector_store.domain.grants.shipped_policies import has_shipped_spec
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import (
    ACCESS_APPROVALS,
    ACCESS_POLICIES,
    ACCESS_REQUESTS,
    APPROVAL_TASKS,
    CONFIG_MAPS,
    GROUP,
    SELF_SUBJECT_REVIEWS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
    Resource,
)

logger = logging.getLogger(__name__)

PROOF_INTERVAL: Final = 60.0
"""Seconds between two proofs."""
ROUNDS: Final = 3
"""Proofs in a row before `enforced-since` is written, because each API server applies policies after a moment."""
NOT_PROVED: Final = "the controller has not proved yet that the admission policy is in force"
FORGED_USER: Final = "connectors-admission-proof"

_TRANSIENT: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
"""Statuses below 500 that say nothing about the policies. The work queue tries again, and what is published stays."""


class _Forgery(NamedTuple):
    """Object that the API server must refuse, and a part of the policy's message."""

    resource: Resource
    spec: dict[str, Any]
    message: str
    owners: tuple[dict[str, str], ...] = ()


class Proof(NamedTuple):
    """Objects that the API server must refuse, in their order, and the keys for the result.

    `forgeries` gets the controller's own name. `subject` names the policies in the log. `remedy` is the next step, and
    `rights` the one if the controller may not read a policy.
    """

    forgeries: Callable[[str], list[_Forgery]]
    policies: tuple[str, ...]
    subject: str
    remedy: str
    rights: str
    since_key: str
    versions_key: str
    reason_key: str


def make_forgeries(user: str) -> list[_Forgery]:
    """Return the forged objects. `user` is the controller's own name, so each violates one rule as far as possible."""
    stranger = {"kind": "User", "name": FORGED_USER}
    reference = {"name": FORGED_USER, "uid": "0"}
    request = {"connectorRef": {"name": FORGED_USER}, "subject": stranger}
    approval = {"requestRef": reference, "policyRef": reference, "decision": "Approved"}
    return [
        _Forgery(ACCESS_REQUESTS, {**request, "requester": FORGED_USER}, "spec.requester:"),
        _Forgery(ACCESS_REQUESTS, {**request, "requester": user}, "spec.subject:"),
        _Forgery(ACCESS_APPROVALS, {**approval, "by": FORGED_USER}, "spec.by:"),
        _Forgery(ACCESS_APPROVALS, {**approval, "by": user}, "spec.policyRef.name:"),
        _Forgery(ACCESS_POLICIES, {"approval": {"required": 1}}, "an AccessPolicy gives the use of Connectors"),
    ]


def make_task_forgeries(_: str) -> list[_Forgery]:
    """Return an ApprovalTask that its author links to a CustomRun, as only the approval gate may."""
    owner = {"apiVersion": "tekton.dev/v1beta1", "kind": "CustomRun", "name": FORGED_USER, "uid": "0"}
    spec = {"approvers": [{"name": FORGED_USER, "type": "User", "input": "pending"}], "numberOfApprovalsRequired": 1}
    return [_Forgery(APPROVAL_TASKS, spec, "metadata.ownerReferences:", (owner,))]


ACCESS_PROOF: Final = Proof(
    forgeries=make_forgeries,
    policies=ADMISSION_POLICIES,
    subject="access requests",
    remedy="apply deploy/policy",
    rights="apply deploy/system/controller-rbac.yaml",
    since_key=ENFORCED_SINCE,
    versions_key=POLICY_VERSIONS,
    reason_key=REASON,
)
TASK_PROOF: Final = Proof(
    forgeries=make_task_forgeries,
    policies=TASK_POLICIES,
    subject="ApprovalTasks",
    remedy="install Tekton's approval gate and apply deploy/components/tekton, or remove the check",
    rights="apply deploy/components/tekton",
    since_key=TASKS_ENFORCED_SINCE,
    versions_key="approval-tasks-policy-versions",
    reason_key="approval-tasks-reason",
)


class AdmissionProof:
    """Reconciler with one key. It runs every minute, and writes only when the result changes."""

    def __init__(
        self,
        client: KubeClient,
        *,
        system_namespace: str,
        on_proof: Callable[[float | None], None] = lambda enforced_since: None,
        proof: Proof = ACCESS_PROOF,
    ) -> None:
        """Create the reconciler. `on_proof` gets the time since which the policies are in force, or None."""
        self.problem: str | None = NOT_PROVED
        self._client = client
        self._namespace = system_namespace
        self._on_proof = on_proof
        self._proof = proof

    async def reconcile(self, _: str) -> float:
        """Prove that the policies are in force, and publish the result. Return the seconds until the next proof."""
        user = (await self._client.create(SELF_SUBJECT_REVIEWS.path(), _SELF_SUBJECT_REVIEW))["status"]["userInfo"]
        # Read the versions before the proof. A change after this read has another version at the next proof.
        versions, problem = await self._read_policies(user["username"])
        for _round in range(ROUNDS):
            problem = problem or await self._find_problem(user["username"])
        enforced_since = await self._publish(versions, problem)
        self.problem = problem
        self._on_proof(enforced_since)
        return PROOF_INTERVAL

    async def _read_policies(self, user: str) -> tuple[str, str | None]:
        """Return the versions of the policies and bindings, and why one of them does not check every object."""
        policies = []
        remedies: dict[int, str] = {
            HTTPStatus.NOT_FOUND: f"; {self._proof.remedy}",
            HTTPStatus.FORBIDDEN: f"; {self._proof.rights}",
        }
        for name in self._proof.policies:
            for resource in (VALIDATING_ADMISSION_POLICIES, VALIDATING_ADMISSION_POLICY_BINDINGS):
                try:
                    policy = await self._client.get(resource.path(name=name))
                except ApiError as error:
                    if _is_transient(error):
                        raise
                    remedy = remedies.get(error.status, "")
                    return "", f"the {resource.kind} {name} cannot be read: {error.message}{remedy}"
                exemption = find_exemption(policy)
                if exemption is not None:
                    return "", f"the {resource.kind} {name} has {exemption}; delete it, and {self._proof.remedy}"
                if resource is VALIDATING_ADMISSION_POLICIES and not has_shipped_spec(policy, user):
                    return (
                        "",
                        f"the spec of the {resource.kind} {name} is not that of this release; {self._proof.remedy}",
                    )
                policies.append(policy)
        return format_policy_versions(policies), None

    async def _find_problem(self, user: str) -> str | None:
        """Return why the policies are not in force, or None if the API server refused every forged object."""
        for forgery in self._proof.forgeries(user):
            resource = forgery.resource
            manifest = {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"generateName": f"{FORGED_USER}-", "ownerReferences": list(forgery.owners)},
                "spec": forgery.spec,
            }
            try:
                await self._client.create(resource.path(self._namespace), manifest, dry_run=True)
            except ApiError as error:
                if is_refused_by_policy(error, resource, forgery.message):
                    continue
                if _is_transient(error):
                    raise
                return (
                    f"the API server refused a forged {resource.kind}, but not by the policy: {error.message}; "
                    f"{self._proof.remedy}"
                )
            return f"the API server admitted a forged {resource.kind}; {self._proof.remedy}"
        return None

    async def _publish(self, versions: str, problem: str | None) -> float | None:
        """Write the result if it changed. Return the time since which the policies are in force, or None."""
        path = CONFIG_MAPS.path(self._namespace, ADMISSION_CONFIG_MAP)
        current = await self._client.find(path)
        if current is None:
            metadata = {"name": ADMISSION_CONFIG_MAP, "namespace": self._namespace}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}
            current = await self._client.create(CONFIG_MAPS.path(self._namespace), body)
        data = current.get("data") or {}
        since_key, versions_key, reason_key = self._proof.since_key, self._proof.versions_key, self._proof.reason_key
        enforced_since = parse_enforced_since(current, since_key)
        if problem is not None:
            if since_key in data or data.get(reason_key) != problem:
                await self._client.patch(path, {"data": {since_key: None, reason_key: problem}})
                logger.warning("no approval of %s counts, because %s", self._proof.subject, problem)
            return None
        change = _describe_change(str(data.get(versions_key, "")), versions) if enforced_since is not None else None
        if enforced_since is not None and change is None:
            return enforced_since
        # Times of objects have no fraction: an object of this second may be older than the proof.
        since = format_unix_time(math.ceil(self._client.clock.now()) + 1)
        await self._client.patch(path, {"data": {since_key: since, versions_key: versions, reason_key: change}})
        logger.info("the admission policies for %s are in force since %s", self._proof.subject, since)
        if change is not None:
            logger.warning("%s from before %s do not count: %s", self._proof.subject, since, change)
        return parse_time(since)


def _describe_change(previous: str, current: str) -> str | None:
    """Return why the time begins again, or None if all policies have the versions of the last proof."""
    if not previous:
        return "the versions of the admission policies at the last proof are not known; ask again"
    changed = find_changed_policies(previous, current)
    return f"changed since the last proof: {', '.join(changed)}; ask again" if changed else None


def _is_transient(error: ApiError) -> bool:
    """Return True if the error says nothing about the policies, as when the API server is away."""
    return not error.status or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status in _TRANSIENT


_SELF_SUBJECT_REVIEW: Final[dict[str, Any]] = {
    "apiVersion": SELF_SUBJECT_REVIEWS.api_version,
    "kind": SELF_SUBJECT_REVIEWS.kind,
}


def is_refused_by_policy(error: ApiError, resource: Resource, message: str) -> bool:
    """Return True if the shipped policy of the resource refused the object, with a message that has this part."""
    return (
        error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)
        and f"ValidatingAdmissionPolicy '{resource.plural}.{GROUP}'" in error.message
        and message in error.message
    )
