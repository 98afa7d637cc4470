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
from connector_store.domain.permissions.permissions import UPGRADED, Asked, Lending, Lent
from connector_store.domain.permissions.rbac import RBAC_GROUP, ClusterRole, PolicyRule

_NOTHING_BUT_ALWAYS: Final = Lending((), ())
_REFUSED: Final = frozenset({401, 403, 407})
_BIND: Final = frozenset({"create", "update", "patch"})

_Need = tuple[str, str, str]
"""API group, resource with its subresource (or a path, with the group `/`), verb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """`permissions` is the value of spec.permissions with these roles; empty where nothing is needed."""

    roles: tuple[ClusterRole, ...]
    permissions: Mapping[str, list[dict[str, object]]]
    left_out: tuple[str, ...]
    """What was seen and is not in the roles, and why."""


def suggest(lines: Iterable[Mapping[str, object]], *, name: str) -> Suggestion:
    """Of audit lines (docs/reference/telemetry.md), already chosen by who called and by Connector."""
    needs: defaultdict[str, set[_Need]] = defaultdict(set)
    left_out: Counter[str] = Counter()
    for line in lines:
        info = _request(line)
        if info is None:
            continue
        status = line.get("status")
        if not isinstance(status, int) or (status in _REFUSED):
            left_out[f"refused with {status}: {_words(info)}"] += 1
        elif isinstance(_NOTHING_BUT_ALWAYS.decide(Asked(info=info)), Lent):
            continue
        elif info.group == RBAC_GROUP and info.verb in _BIND:
            why = "it may give any right, so it needs bind or escalate, which are yours to give"
            left_out[f"{why}: {_words(info)}"] += 1
        else:
            needs[info.namespace if info.resource else ""] |= _needs(info)
    return _suggestion(needs, left_out, name)


def _request(line: Mapping[str, object]) -> RequestInfo | None:
    def text(field: str) -> str:
        value = line.get(field)
        return value if isinstance(value, str) else ""

    if line.get("event") != "request" or not text("verb"):
        return None
    path = text("path").partition("?")[0]
    return RequestInfo(
        text("verb"), text("group"), text("resource"), text("subresource"), text("namespace"), text("name"), path
    )


def _needs(info: RequestInfo) -> set[_Need]:
    if not info.resource:
        return {("/", info.path, info.verb)}
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    verbs = {info.verb}
    if (info.verb == "update" and not info.subresource) or (info.subresource in UPGRADED and info.verb == "get"):
        # A limited Connector asks for it too: docs/permissions.md.
        verbs.add("create")
    return {(info.group, resource, verb) for verb in verbs}


def _suggestion(needs: Mapping[str, set[_Need]], left_out: Counter[str], name: str) -> Suggestion:
    shared: defaultdict[frozenset[_Need], list[str]] = defaultdict(list)
    everywhere = frozenset(needs.get("", ()))
    for namespace in sorted(each for each in needs if each):
        wanted = frozenset(needs[namespace]) - everywhere
        if wanted:
            shared[wanted].append(namespace)
    roles: list[ClusterRole] = []
    entries: list[dict[str, object]] = []
    several = len(shared) + bool(everywhere) > 1
    for wanted, namespaces in (*(((everywhere, []),) if everywhere else ()), *shared.items()):
        role = f"{name}-{len(roles) + 1}" if several else name
        roles.append(ClusterRole(name=role, rules=_rules(wanted)))
        entries.append({"clusterRole": role} | ({"namespaces": namespaces} if namespaces else {}))
    told = tuple(f"{each} ({count} times)" if count > 1 else each for each, count in sorted(left_out.items()))
    return Suggestion(roles=tuple(roles), permissions={"allow": entries} if entries else {}, left_out=told)


def _rules(needs: frozenset[_Need]) -> tuple[PolicyRule, ...]:
    """One rule for all resources of a group with the same verbs."""
    verbs: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for group, resource, verb in needs:
        verbs[group, resource].add(verb)
    resources: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource), each in sorted(verbs.items()):
        resources[group, tuple(sorted(each))].append(resource)
    return tuple(
        PolicyRule(verbs=each, non_resource_urls=tuple(found))
        if group == "/"
        else PolicyRule(verbs=each, api_groups=(group,), resources=tuple(found))
        for (group, each), found in resources.items()
    )


def _words(info: RequestInfo) -> str:
    if not info.resource:
        return f"{info.verb} {info.path}"
    resource = f"{info.resource}.{info.group}" if info.group else info.resource
    where = f" in {info.namespace}" if info.namespace else ""
    return f"{info.verb} {resource}{'/' + info.subresource if info.subresource else ''}{where}"
