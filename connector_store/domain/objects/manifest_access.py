"""Parsers of raw AccessPolicies, AccessRequests, AccessApprovals and AccessLocks.

A ParseError is raised only for an object without a usable identity. What else cannot be parsed grants nothing, and a
lock that cannot be parsed locks all Connectors of its namespace.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from connector_store.domain.base.duration import parse_duration
from connector_store.domain.base.errors import ParseError, parse_errors_at
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.label_selector import parse_object_selector
from connector_store.domain.base.metadata import Metadata, parse_metadata
from connector_store.domain.base.names import ObjectKey, is_dns_label, is_dns_subdomain
from connector_store.domain.base.rfc3339 import parse_time
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX
from connector_store.domain.objects.access_objects import (
    DEFAULT_MAX_DURATION,
    AccessApproval,
    AccessLock,
    AccessPolicy,
    AccessRequest,
    AccountSelector,
    ApprovalRule,
    Namespace,
    PodMount,
    PodReference,
    TaskCheck,
)
from connector_store.domain.permissions.permissions import RoleEntry, parse_role_entries

SUPPORTED_ROLES: Final = ("connectors-use-connectors-proxy", "connectors-use-connectors-proxy-in-pod")
"""Built-in role templates of the Alauda product. They mean the right to use the Connector, which is what we grant."""

SUPPORTED_CHECK: Final = "connectors-approvals-in-pipeline"
"""Built-in check of the Alauda product: an ApprovalTask of the pod's PipelineRun is approved."""

MIN_DURATION: Final = 1.0
MAX_DURATION: Final = 720 * 3600.0
"""Limits on the duration of a request, in seconds, as in the CustomResourceDefinition."""
MAX_REQUIRED: Final = 8


def parse_access_policy(raw: Mapping[str, object], *, default_namespace: str = "") -> AccessPolicy:
    """Parse an AccessPolicy. Its `problems` name each field that is not supported."""
    metadata = parse_metadata(raw, namespaced=True, default_namespace=default_namespace)
    policy = AccessPolicy(key=metadata.key, uid=metadata.uid, is_deleted=_is_deleted(metadata))
    try:
        spec = Fields(raw, "").child("spec")
        check_spec = spec.child("checkGrantedPermission").child("spec")
        problems: list[str] = []
        for parent in (spec.child("defaultPermission"), spec.child("checkGrantedPermission"), check_spec):
            problems += _unsupported_role(parent.child("roleTemplate"))
        check, required = _parse_checks(check_spec, problems)
        judges_requests = spec.value("approval") is not None or spec.value("checkGrantedPermission") is not None
        approval = _parse_approval(spec.child("approval"))
        return replace(
            policy,
            connector=parse_object_selector(spec.child("connector")),
            accounts=_parse_accounts(spec.child("defaultPermission").child("bindingTemplate")),
            approval=replace(approval, required=max(approval.required, required)) if judges_requests else None,
            task_check=check,
            problems=tuple(problems),
        )
    except ParseError as error:
        return replace(policy, problems=(str(error),))


def _is_deleted(metadata: Metadata) -> bool:
    return metadata.fields.value("deletionTimestamp") is not None


def _unsupported_role(template: Fields) -> list[str]:
    if not template:
        return []
    name = template.child("ref").child("configMap").text("name")
    is_supported = name in SUPPORTED_ROLES and template.names() == ["ref"]
    return [] if is_supported else [f"{template.path} is not supported; name one of: {', '.join(SUPPORTED_ROLES)}"]


def _parse_checks(fields: Fields, problems: list[str]) -> tuple[TaskCheck | None, int]:
    """Return the check, and how many approvals it needs."""
    check, required = None, 1
    for entry in fields.items("checks"):
        is_supported = entry.child("ref").child("configMap").text("name") == SUPPORTED_CHECK
        # A check that does not run lets no caller in. Without this, its policy would need one check less.
        if check is not None or not is_supported or not {*entry.names()} <= {"name", "ref", "params"}:
            problems.append(f"{entry.path} is not supported; keep one check, with the ref {SUPPORTED_CHECK}")
            continue
        params = {param.text("name"): param for param in entry.items("params")}
        if len(params) < len(entry.items("params")) or not {*params} <= {_APPROVERS, _REQUIRED}:
            raise ParseError(entry.path_of("params"), f"are not {_APPROVERS} and {_REQUIRED}, each at most once")
        check = TaskCheck(approvers=_parse_approvers(params.get(_APPROVERS)))
        required = _parse_required(params.get(_REQUIRED))
    return check, required


_APPROVERS: Final = "approvers"
_REQUIRED: Final = "numberOfApprovalsRequired"


def _parse_approvers(param: Fields | None) -> frozenset[str]:
    if param is None:
        return frozenset()
    approvers = frozenset(param.texts("value"))
    if not approvers or "" in approvers:
        raise ParseError(
            param.path_of("value"), "has no approver, or an empty one; name users, or groups as group:NAME"
        )
    return approvers


def _parse_required(param: Fields | None) -> int:
    text = param.text("value") or "" if param is not None else "1"
    if param is not None and text not in [str(number) for number in range(1, MAX_REQUIRED + 1)]:
        raise ParseError(param.path_of("value"), f'is not a number between "1" and "{MAX_REQUIRED}" in quotes')
    return int(text)


def _parse_accounts(template: Fields) -> tuple[AccountSelector, ...]:
    return tuple(
        AccountSelector(
            names=frozenset(entry.texts("names")), namespaces=parse_object_selector(entry.child("namespaceSelector"))
        )
        for entry in template.items("serviceAccounts")
    )


def _parse_approval(fields: Fields) -> ApprovalRule:
    required = fields.number("required") if fields.value("required") is not None else 1
    if not 1 <= required <= MAX_REQUIRED:
        raise ParseError(fields.path_of("required"), f"is not between 1 and {MAX_REQUIRED}")
    duration = _parse_duration(fields, "maxDuration")
    return ApprovalRule(
        required=required,
        max_duration=DEFAULT_MAX_DURATION if duration is None else duration,
        requires_reason=fields.flag("requireReason"),
        service_accounts_may_approve=fields.flag("serviceAccountsMayApprove"),
    )


def _parse_duration(fields: Fields, name: str) -> float | None:
    text = fields.text(name)
    if text is None:
        return None
    with parse_errors_at(fields.path_of(name)):
        seconds = parse_duration(text)
    if not MIN_DURATION <= seconds <= MAX_DURATION:
        raise ParseError(fields.path_of(name), "is not a duration between 1s and 720h")
    return seconds


def parse_access_request(raw: Mapping[str, object], *, default_namespace: str = "") -> AccessRequest:
    """Parse an AccessRequest."""
    metadata = parse_metadata(raw, namespaced=True, default_namespace=default_namespace)
    created_at = metadata.created_at
    request = AccessRequest(
        key=metadata.key, uid=metadata.uid, created_at=created_at or 0.0, is_deleted=_is_deleted(metadata)
    )
    try:
        spec = Fields(raw, "").child("spec")
        if created_at is None:
            raise ParseError("metadata.creationTimestamp", "is not set; access requests need a cluster")
        return replace(
            request,
            requester=spec.text("requester") or "",
            subject=_parse_subject(spec.child("subject")),
            connector=_required_name(spec.child("connectorRef"), "name"),
            pod=_parse_pod(spec.child("context")),
            duration=_parse_duration(spec, "duration"),
            has_reason=spec.text("reason") is not None,
            roles=_parse_roles(spec.child("permissions")),
        )
    except ParseError as error:
        return replace(request, problem=str(error))


def _parse_subject(fields: Fields) -> str:
    """Return the canonical user name of a subject of kind ServiceAccount or User."""
    kind, name, namespace = fields.text("kind"), fields.text("name"), fields.text("namespace")
    if kind == "ServiceAccount" and name is not None and namespace is not None:
        if not is_dns_subdomain(name) or not is_dns_label(namespace):
            raise ParseError(fields.path, "is not the name of a ServiceAccount with its namespace")
        return f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"
    if kind == "User" and name is not None and namespace is None and not name.startswith(SERVICE_ACCOUNT_PREFIX):
        return name
    raise ParseError(fields.path, "is not a User with name, or a ServiceAccount with name and namespace")


def _required_name(fields: Fields, name: str) -> str:
    value = fields.text(name)
    if value is None or not is_dns_subdomain(value):
        raise ParseError(fields.path_of(name), "is not the name of an object")
    return value


def _parse_pod(context: Fields) -> PodReference | None:
    if context.value("objectRef") is None:
        return None
    ref = context.child("objectRef")
    if ref.text("kind") != "Pod":
        raise ParseError(ref.path_of("kind"), "is not Pod")
    key = ObjectKey(ref.text("namespace") or "", _required_name(ref, "name"))
    return PodReference(key=key, uid=ref.text("uid") or "", mount=_parse_mount(context))


def _parse_mount(context: Fields) -> PodMount | None:
    if context.value("mount") is None:
        return None
    mount = context.child("mount")
    node, pod_uid = mount.text("nodeName"), mount.text("podUID")
    if node is None or pod_uid is None:
        raise ParseError(mount.path, "needs nodeName and podUID")
    return PodMount(node, pod_uid)


def _parse_roles(permissions: Fields) -> tuple[RoleEntry, ...]:
    if permissions.names() not in ([], ["allow"]):
        raise ParseError(permissions.path, "has a field that is not allow")
    return parse_role_entries(permissions, "allow") or ()


def parse_access_approval(raw: Mapping[str, object], *, default_namespace: str = "") -> AccessApproval:
    """Parse an AccessApproval. One that cannot be parsed approves nothing."""
    metadata = parse_metadata(raw, namespaced=True, default_namespace=default_namespace)
    approval = AccessApproval(key=metadata.key, uid=metadata.uid, is_deleted=_is_deleted(metadata))
    created_at = metadata.created_at
    try:
        spec = Fields(raw, "").child("spec")
        request, policy = spec.child("requestRef"), spec.child("policyRef")
        return replace(
            approval,
            request_name=request.text("name") or "",
            request_uid=request.text("uid") or "",
            policy_name=policy.text("name") or "",
            policy_uid=policy.text("uid") or "",
            by=spec.text("by") or "",
            is_approved=spec.text("decision") == "Approved" and created_at is not None,
            is_from_task=spec.value("taskRef") is not None,
            created_at=created_at or 0.0,
        )
    except ParseError:
        return approval


def parse_namespace(raw: Mapping[str, object]) -> Namespace:
    """Parse a Namespace. Labels that are not strings are left out."""
    metadata = parse_metadata(raw, namespaced=False)
    return Namespace(name=metadata.key.name, labels=metadata.labels)


def parse_access_lock(raw: Mapping[str, object], *, default_namespace: str = "") -> AccessLock:
    """Parse an AccessLock."""
    metadata = parse_metadata(raw, namespaced=True, default_namespace=default_namespace)
    try:
        spec = Fields(raw, "").child("spec")
        connector = spec.child("connector")
        subjects = [(subject.text("kind"), subject) for subject in spec.items("subjects")]
        return AccessLock(
            key=metadata.key,
            uid=metadata.uid,
            users=frozenset(_parse_subject(subject) for kind, subject in subjects if kind != "Group"),
            groups=frozenset(_parse_group(subject) for kind, subject in subjects if kind == "Group"),
            connector=parse_object_selector(connector),
            secret_names=frozenset(connector.texts("secretNames")),
            addresses=frozenset(connector.texts("addresses")),
            until=_parse_until(spec),
            reason=spec.text("reason") or "",
        )
    except ParseError as error:
        return AccessLock(key=metadata.key, uid=metadata.uid, problem=str(error))


def _parse_group(fields: Fields) -> str:
    name = fields.text("name")
    if name is None:
        raise ParseError(fields.path_of("name"), "is empty; write the name of the group")
    return name


def _parse_until(spec: Fields) -> float | None:
    text = spec.text("until")
    until = parse_time(text)
    if text is not None and until is None:
        raise ParseError(spec.path_of("until"), "is not a time; write it as 2026-01-31T18:00:00Z")
    return until
