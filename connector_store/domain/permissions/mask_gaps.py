"""Ways around a mask: rights with which a caller gets a Secret's values without reading the Secret.

Such a right is in one of the parts of `connectors-credentials`. A part is a gap if a role of `allow` has one of its
rights and the roles of `deny` do not cover it. A role of `deny` with `namespaces` covers nothing here.
"""

from collections.abc import Iterable
from itertools import product
from typing import Final

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.builtin_roles import SHIPPED_ROLES
from connector_store.domain.permissions.rbac import WILDCARD, BoundRole, PolicyRule, RuleSet

_WAYS: Final = {
    "connectors-credentials-issuing": "tokens and certificates",
    "connectors-credentials-streams": "exec, attach, port-forward and proxies",
    "connectors-credentials-rights": "roles, impersonation, webhooks and API services",
    "connectors-credentials-workloads": "pods, and the objects that start them",
}
"""Parts that a mask needs in `deny`, and what they cover. The part about Secrets would deny the masked reads, too."""
MASK_PARTS: Final = tuple(_WAYS)


def find_mask_gaps(allow: Iterable[BoundRole] | None, deny: Iterable[BoundRole]) -> tuple[str, ...]:
    """Return each part that `deny` needs, with what it covers. Empty if the mask is complete.

    `allow` is None if everything is allowed.
    """
    allowed = None if allow is None else [rule for role in allow for rule in role.rules]
    denied = RuleSet(role for role in deny if role.namespaces is None)
    return tuple(
        f"{part} ({way})"
        for part, way in _WAYS.items()
        if any(
            (allowed is None or any(_overlap(rule, other) for other in allowed)) and not _is_covered(rule, denied)
            for rule in SHIPPED_ROLES[part].rules
        )
    )


def _is_covered(rule: PolicyRule, rules: RuleSet) -> bool:
    """Return True if `rules` match each right of a rule. Wildcards match wildcards only."""
    for verb, group, full_resource, name in product(
        rule.verbs, rule.api_groups, rule.resources, rule.resource_names or ("",)
    ):
        resource, _, subresource = full_resource.partition("/")
        if rules.find_role(RequestInfo(verb, group, resource, subresource, WILDCARD, name, "")) is None:
            return False
    return True


def _overlap(rule: PolicyRule, other: PolicyRule) -> bool:
    """Return True if both rules match one request. Names are ignored."""
    return (
        _have_common_word(rule.verbs, other.verbs)
        and _have_common_word(rule.api_groups, other.api_groups)
        and any(_is_same_resource(*pair) for pair in product(rule.resources, other.resources))
    )


def _have_common_word(words: tuple[str, ...], others: tuple[str, ...]) -> bool:
    return WILDCARD in words or WILDCARD in others or not set(words).isdisjoint(others)


def _is_same_resource(resource: str, other: str) -> bool:
    if WILDCARD in (resource, other) or resource == other:
        return True
    (name, _, subresource), (other_name, _, other_subresource) = resource.partition("/"), other.partition("/")
    return subresource == other_subresource != "" and WILDCARD in (name, other_name)
