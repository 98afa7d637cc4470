"""Audit lines -> the smallest roles that lend what callers really did, and what is left out of them.

A request in a namespace asks for an entry of that namespace, all others for one without. Names are not kept: the next
object has another one. Namespaces where the same was done share a role.

>>> line = {"event": "request", "verb": "list", "group": "", "resource": "pods", "namespace": "web", "status": 200}
>>> suggest([line], name="ci").permissions
{'allow': [{'clusterRole': 'ci', 'namespaces': ['web']}]}
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.permissions import (
    STREAM_SUBRESOURCES,
    Allowed,
    PermissionEvaluator,
    RequestAttributes,
)
from connector_store.domain.permissions.rbac import RBAC_GROUP, ClusterRole, PolicyRule

_DEFAULTS_ONLY: Final = PermissionEvaluator((), ())
_REFUSED_STATUSES: Final = frozenset({401, 403, 407})
_WRITE_VERBS: Final = frozenset({"create", "update", "patch"})

_Right = tuple[str, str, str]
"""API group, resource with its subresource (or a path, with the group `/`), verb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSuggestion:
    """`permissions` is the value of spec.permissions with these roles; empty where nothing is needed."""

    roles: tuple[ClusterRole, ...]
    permissions: Mapping[str, list[dict[str, object]]]
    omissions: tuple[str, ...]
    """What was seen and is not in the roles, and why."""


def suggest_roles(records: Iterable[Mapping[str, object]], *, name: str) -> RoleSuggestion:
    """Of audit lines (docs/reference/telemetry.md), already chosen by who called and by Connector."""
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
            rights[info.namespace if info.resource else ""] |= _required_rights(info)
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


def _required_rights(info: RequestInfo) -> set[_Right]:
    if not info.resource:
        return {("/", info.path, info.verb)}
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    verbs = {info.verb}
    if (info.verb == "update" and not info.subresource) or (
        info.subresource in STREAM_SUBRESOURCES and info.verb == "get"
    ):
        # A limited Connector asks for it too: docs/permissions.md.
        verbs.add("create")
    return {(info.group, resource, verb) for verb in verbs}


def _build_suggestion(rights: Mapping[str, set[_Right]], omission_counts: Counter[str], name: str) -> RoleSuggestion:
    namespaces_by_rights: defaultdict[frozenset[_Right], list[str]] = defaultdict(list)
    cluster_rights = frozenset(rights.get("", ()))
    for namespace in sorted(namespace_key for namespace_key in rights if namespace_key):
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
        f"{namespace_key} ({count} times)" if count > 1 else namespace_key
        for namespace_key, count in sorted(omission_counts.items())
    )
    return RoleSuggestion(roles=tuple(roles), permissions={"allow": entries} if entries else {}, omissions=omissions)


def _build_rules(rights: frozenset[_Right]) -> tuple[PolicyRule, ...]:
    """One rule for all resources of a group with the same verbs."""
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
