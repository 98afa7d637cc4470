"""Suggests the smallest roles for the requests in an audit log, and reports the requests that it omits.

A request in a namespace adds to the entry of that namespace, any other request to the entry without namespaces. The
roles do not contain object names, because the next object has another name. Namespaces with the same requests share a
role.

>>> record = {"event": "request", "verb": "list", "group": "", "resource": "pods", "namespace": "web", "status": 200}
>>> suggest_roles([record], name="ci").permissions
{'allow': [{'clusterRole': 'ci', 'namespaces': ['web']}]}
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.evaluator import Allowed, PermissionEvaluator
from connector_store.domain.permissions.rbac import RBAC_GROUP, ClusterRole, PolicyRule
from connector_store.domain.permissions.request_attributes import RequestAttributes, requires_create

_DEFAULTS_ONLY: Final = PermissionEvaluator((), ())
_REFUSED_STATUSES: Final = frozenset({401, 403, 407})
_WRITE_VERBS: Final = frozenset({"create", "update", "patch"})

_Right = tuple[str, str, str]
"""API group, resource with subresource, and verb. A path has the group `/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSuggestion:
    """Suggested roles. `permissions` is the value of spec.permissions for them, empty if no role is needed."""

    roles: tuple[ClusterRole, ...]
    permissions: Mapping[str, list[dict[str, object]]]
    omissions: tuple[str, ...]
    """Requests that the roles do not cover, with the reason."""


def suggest_roles(records: Iterable[Mapping[str, object]], *, name: str) -> RoleSuggestion:
    """Suggest roles for audit records (docs/reference/telemetry.md) of one Connector and its chosen callers."""
    rights: defaultdict[str, set[_Right]] = defaultdict(set)
    omission_counts: Counter[str] = Counter()
    for record in records:
        info = _parse_request(record)
        if info is None:
            continue
        status = record.get("status")
        if not isinstance(status, int) or (status in _REFUSED_STATUSES):
            omission_counts[f"refused with {status}: {_describe(info)}"] += 1
        elif isinstance(_DEFAULTS_ONLY.evaluate(RequestAttributes(info=info)), Allowed):
            continue
        elif info.group == RBAC_GROUP and info.verb in _WRITE_VERBS:
            reason = "it may give any right, so it needs bind or escalate, which are yours to give"
            omission_counts[f"{reason}: {_describe(info)}"] += 1
        else:
            rights[info.namespace if info.resource else ""] |= _required_rights(info, is_upgrade=status == 101)
    return _build_suggestion(rights, omission_counts, name)


def _parse_request(record: Mapping[str, object]) -> RequestInfo | None:
    def text(field: str) -> str:
        value = record.get(field)
        return value if isinstance(value, str) else ""

    if record.get("event") != "request" or not text("verb"):
        return None
    path = text("path").partition("?")[0]
    return RequestInfo(
        text("verb"), text("group"), text("resource"), text("subresource"), text("namespace"), text("name"), path
    )


def _required_rights(info: RequestInfo, *, is_upgrade: bool) -> set[_Right]:
    if not info.resource:
        return {("/", info.path, info.verb)}
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    verbs = {info.verb}
    if (info.verb == "update" and not info.subresource) or (
        info.verb == "get" and requires_create(info.subresource, is_upgrade=is_upgrade)
    ):
        # A Connector with permissions also requires `create` (docs/permissions.md).
        verbs.add("create")
    return {(info.group, resource, verb) for verb in verbs}


def _build_suggestion(rights: Mapping[str, set[_Right]], omission_counts: Counter[str], name: str) -> RoleSuggestion:
    namespaces_by_rights: defaultdict[frozenset[_Right], list[str]] = defaultdict(list)
    cluster_rights = frozenset(rights.get("", ()))
    for namespace in sorted(filter(None, rights)):
        role_rights = frozenset(rights[namespace]) - cluster_rights
        if role_rights:
            namespaces_by_rights[role_rights].append(namespace)
    roles: list[ClusterRole] = []
    entries: list[dict[str, object]] = []
    is_numbered = len(namespaces_by_rights) + bool(cluster_rights) > 1
    for role_rights, namespaces in (
        *(((cluster_rights, []),) if cluster_rights else ()),
        *namespaces_by_rights.items(),
    ):
        role = f"{name}-{len(roles) + 1}" if is_numbered else name
        roles.append(ClusterRole(name=role, rules=_build_rules(role_rights)))
        entries.append({"clusterRole": role} | ({"namespaces": namespaces} if namespaces else {}))
    omissions = tuple(
        f"{omission} ({count} times)" if count > 1 else omission for omission, count in sorted(omission_counts.items())
    )
    return RoleSuggestion(roles=tuple(roles), permissions={"allow": entries} if entries else {}, omissions=omissions)


def _build_rules(rights: frozenset[_Right]) -> tuple[PolicyRule, ...]:
    """Combine the resources of an API group that have the same verbs into one rule."""
    verbs: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for group, resource, verb in rights:
        verbs[group, resource].add(verb)
    resources: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource), rule_verbs in sorted(verbs.items()):
        resources[group, tuple(sorted(rule_verbs))].append(resource)
    return tuple(
        PolicyRule(verbs=rule_verbs, non_resource_urls=tuple(names))
        if group == "/"
        else PolicyRule(verbs=rule_verbs, api_groups=(group,), resources=tuple(names))
        for (group, rule_verbs), names in resources.items()
    )


def _describe(info: RequestInfo) -> str:
    if not info.resource:
        return f"{info.verb} {info.path}"
    resource = f"{info.resource}.{info.group}" if info.group else info.resource
    scope = f" in {info.namespace}" if info.namespace else ""
    return f"{info.verb} {resource}{'/' + info.subresource if info.subresource else ''}{scope}"
