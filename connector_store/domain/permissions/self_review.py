"""Self-reviews, answered as the intersection of what the target says and what a Connector allows.

The target answers a self-review for the credential. The response repeats the question in `spec`, so the answer follows
from the response alone. A right that the Connector does not allow becomes `allowed: false`, with the reason.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.evaluator import DEFAULT_ROLES, Allowed, NotAllowed, PermissionEvaluator
from connector_store.domain.permissions.rbac import WILDCARD, PolicyRule
from connector_store.domain.permissions.request_attributes import RequestAttributes, is_canonical_path
from connector_store.domain.permissions.restrictions import Treatment

VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
"""Verbs that `*` stands for."""
MAX_RULES: Final = 2000
"""Maximum number of rules in a rewritten SelfSubjectRulesReview. It says that it is incomplete if there are more."""

_NOTES: Final = {Treatment.MASK: "masked", Treatment.DRY_RUN: "dry run only"}


def check_right(
    permissions: PermissionEvaluator, info: RequestInfo, wider: Iterable[PermissionEvaluator] = ()
) -> Allowed | NotAllowed:
    """Evaluate a right. The verb `*` stands for all verbs.

    `wider` are the permissions with those of one access request each. One that allows it is enough.
    """
    result = _check_right(permissions, info)
    if isinstance(result, Allowed):
        return result
    results = (_check_right(each, info) for each in wider)
    return next((each for each in results if isinstance(each, Allowed)), result)


def _check_right(permissions: PermissionEvaluator, info: RequestInfo) -> Allowed | NotAllowed:
    result = permissions.evaluate(_attributes(info))
    if info.verb != WILDCARD or isinstance(result, NotAllowed):
        return result
    results = (permissions.evaluate(_attributes(info._replace(verb=verb))) for verb in VERBS)
    return next((each for each in results if isinstance(each, NotAllowed)), result)


def _attributes(info: RequestInfo) -> RequestAttributes:
    # A PUT can create the object, so `update` also requires `create`.
    is_canonical = bool(info.resource) or is_canonical_path(info.path)
    return RequestAttributes(info=info, is_canonical=is_canonical, may_create=info.verb == "update")


def describe_treatment(treatment: Treatment) -> str:
    """Return how a right is limited, or an empty string.

    >>> describe_treatment(Treatment.MASK)
    'masked'
    """
    return _NOTES.get(treatment, "")


def rewrite_self_review(
    value: Any, permissions: PermissionEvaluator, connector: str, wider: Sequence[PermissionEvaluator] = ()
) -> dict[str, Any]:
    """Return the response to a self-review as the intersection. Raises ValueError if it is not one.

    `wider` are the permissions with those of one access request of the caller each.
    """
    kind = value.get("kind") if isinstance(value, dict) else None
    spec, status = (value.get("spec"), value.get("status")) if isinstance(value, dict) else (None, None)
    if not isinstance(spec, dict) or not isinstance(status, dict):
        raise ValueError("not a self-review")
    if kind == "SelfSubjectAccessReview":
        return {**value, "status": _review_access(spec, status, permissions, connector, wider)}
    if kind == "SelfSubjectRulesReview":
        return {**value, "status": _review_rules(spec, status, (permissions, *wider), connector)}
    raise ValueError("not a self-review")


def _review_access(
    spec: dict[str, Any],
    status: dict[str, Any],
    permissions: PermissionEvaluator,
    connector: str,
    wider: Sequence[PermissionEvaluator],
) -> dict[str, Any]:
    if status.get("allowed") is not True:
        return {**status, "allowed": False}
    result = check_right(permissions, _parse_question(spec), wider)
    if isinstance(result, NotAllowed):
        cause = f" (ClusterRole {result.denied_by})" if result.denied_by else ""
        reason = f": {result.reason}" if result.reason else ""
        return {"allowed": False, "reason": f'Connector "{connector}" does not allow it{cause}{reason}'}
    note = describe_treatment(result.treatment)
    return {**status, "reason": f'{note}, by Connector "{connector}"'} if note else status


def _parse_question(spec: dict[str, Any]) -> RequestInfo:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if isinstance(resource, dict):
        return RequestInfo(
            verb=_text(resource, "verb"),
            group=_text(resource, "group"),
            resource=_text(resource, "resource"),
            subresource=_text(resource, "subresource"),
            namespace=_text(resource, "namespace"),
            name=_text(resource, "name"),
            path="",
        )
    if isinstance(path, dict):
        return RequestInfo(_text(path, "verb"), "", "", "", "", "", _text(path, "path"))
    raise ValueError("a self-review without a question")


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{name} of a self-review is not a string")
    return value


def _review_rules(
    spec: dict[str, Any], status: dict[str, Any], evaluators: Sequence[PermissionEvaluator], connector: str
) -> dict[str, Any]:
    """Return the rules that one of the evaluators allows. All have the same `deny` and restrictions."""
    namespace = _text(spec, "namespace")
    resource_rules = [_parse_rule(rule) for rule in _list(status, "resourceRules")]
    path_rules = [_parse_rule(rule) for rule in _list(status, "nonResourceRules")]
    parts = [_allowed_rules(resource_rules, path_rules, each, namespace) for each in evaluators]
    allowed = [*dict.fromkeys(rule for resources, _ in parts for rule in resources)]
    paths = [*dict.fromkeys(rule for _, non_resources in parts for rule in non_resources)]
    is_exact = not evaluators[0].deny and not evaluators[0].restrictions and len(allowed) <= MAX_RULES
    result = {
        **status,
        "resourceRules": [_rule_manifest(rule) for rule in allowed[:MAX_RULES]],
        "nonResourceRules": [{"verbs": [*rule.verbs], "nonResourceURLs": [*rule.non_resource_urls]} for rule in paths],
    }
    if not is_exact:
        result |= {"incomplete": True, "evaluationError": f'Connector "{connector}" allows less; ask for single rights'}
    return result


def _allowed_rules(
    resource_rules: list[PolicyRule], path_rules: list[PolicyRule], permissions: PermissionEvaluator, namespace: str
) -> tuple[list[PolicyRule], list[PolicyRule]]:
    """Return what the permissions leave of the rules for resources, and of those for paths."""
    allow = permissions.allow
    if allow is not None:
        rules = [
            rule
            for role in (*allow, *DEFAULT_ROLES)
            if role.namespaces is None or namespace in role.namespaces
            for rule in role.rules
        ]
        resource_rules, path_rules = [*_intersect(resource_rules, rules)], [*_intersect(path_rules, rules)]
    if permissions.restrictions.masks_secrets:
        path_rules = [*_intersect(path_rules, [rule for role in DEFAULT_ROLES for rule in role.rules])]
    allowed = [each for rule in resource_rules for each in _allowed_part(rule, permissions, namespace)]
    return allowed, [each for rule in path_rules for each in _allowed_paths(rule, permissions)]


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list | None):
        raise ValueError(f"{name} of a self-review is not a list")
    return value or []


def _parse_rule(value: Any) -> PolicyRule:
    if not isinstance(value, dict):
        raise ValueError("a rule of a self-review is not an object")

    def words(field: str) -> tuple[str, ...]:
        return tuple(str(word) for word in _list(value, field))

    return PolicyRule(
        verbs=words("verbs"),
        api_groups=words("apiGroups"),
        resources=words("resources"),
        resource_names=words("resourceNames"),
        non_resource_urls=words("nonResourceURLs"),
    )


def _rule_manifest(rule: PolicyRule) -> dict[str, list[str]]:
    manifest = {"verbs": [*rule.verbs], "apiGroups": [*rule.api_groups], "resources": [*rule.resources]}
    return manifest | ({"resourceNames": [*rule.resource_names]} if rule.resource_names else {})


def _intersect(rules: Iterable[PolicyRule], others: list[PolicyRule]) -> Iterator[PolicyRule]:
    for rule, other in product(rules, others):
        names = _common(rule.resource_names or (WILDCARD,), other.resource_names or (WILDCARD,))
        common = PolicyRule(
            verbs=_common(rule.verbs, other.verbs),
            api_groups=_common(rule.api_groups, other.api_groups),
            resources=_common(rule.resources, other.resources),
            resource_names=() if WILDCARD in names else names,
            non_resource_urls=_common_paths(rule.non_resource_urls, other.non_resource_urls),
        )
        if common.verbs and names and ((common.api_groups and common.resources) or common.non_resource_urls):
            yield common


def _common(words: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of both. `*` stands for every word, and `*/exec` for that subresource of everything."""
    pairs = (_narrow(word, other) for word, other in product(words, others))
    return tuple(dict.fromkeys(word for word in pairs if word is not None))


def _narrow(word: str, other: str) -> str | None:
    if word == other or other == WILDCARD:
        return word
    if word == WILDCARD:
        return other
    for wide, narrow in ((word, other), (other, word)):
        if wide.startswith("*/") and narrow.endswith(wide[1:]):
            return narrow
    return None


def _common_paths(paths: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of both. A path with `*` at its end stands for all that begin so."""
    pairs = (_narrow_path(path, other) or _narrow_path(other, path) for path, other in product(paths, others))
    return tuple(dict.fromkeys(path for path in pairs if path))


def _narrow_path(path: str, other: str) -> str:
    is_within = other.endswith(WILDCARD) and path.startswith(other.rstrip(WILDCARD))
    return path if path == other or is_within else ""


def _allowed_part(rule: PolicyRule, permissions: PermissionEvaluator, namespace: str) -> Iterator[PolicyRule]:
    """Yield what `deny` and the restrictions leave of a rule. They cannot be taken from a wildcard."""
    verbs = VERBS if WILDCARD in rule.verbs else rule.verbs
    names = rule.resource_names
    for group, full_resource in product(rule.api_groups, rule.resources):
        if WILDCARD in group or WILDCARD in full_resource:
            yield replace(rule, api_groups=(group,), resources=(full_resource,))
            continue
        resource, _, subresource = full_resource.partition("/")
        info = RequestInfo("", group, resource, subresource, namespace, names[0] if names else "", "")
        allowed = tuple(
            verb for verb in verbs if isinstance(check_right(permissions, info._replace(verb=verb)), Allowed)
        )
        if allowed:
            verbs_left = rule.verbs if allowed == verbs else allowed
            yield replace(rule, verbs=verbs_left, api_groups=(group,), resources=(full_resource,))


def _allowed_paths(rule: PolicyRule, permissions: PermissionEvaluator) -> Iterator[PolicyRule]:
    verbs = ("get",) if WILDCARD in rule.verbs else rule.verbs
    paths = tuple(
        path
        for path in rule.non_resource_urls
        if path.endswith(WILDCARD)
        or all(
            isinstance(check_right(permissions, RequestInfo(verb, "", "", "", "", "", path)), Allowed) for verb in verbs
        )
    )
    if paths:
        yield PolicyRule(verbs=rule.verbs, non_resource_urls=paths)
