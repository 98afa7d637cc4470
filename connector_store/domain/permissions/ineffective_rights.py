"""Fields of `spec.permissions` that do not work together: rights of `allow` that a mask or plan mode always refuses.

They harm nothing, so they do not make a Connector unusable. A right that a rule covers with `*` is not reported.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.rbac import WILDCARD, BoundRole, PolicyRule, RuleSet
from connector_store.domain.permissions.restrictions import MASKED_RESOURCE, Restrictions

_READS: Final = frozenset({"get", "list", "watch"})
_WITHOUT_DRY_RUN: Final = frozenset({"exec", "attach", "portforward", "proxy", "token"})


def find_ineffective_rights(
    allow: Sequence[BoundRole] | None, deny: Sequence[BoundRole], restrictions: Restrictions
) -> tuple[str, ...]:
    """Return a sentence for each pair of fields that do not work together."""
    return tuple(_find(allow or (), deny, restrictions))


def _find(allow: Sequence[BoundRole], deny: Sequence[BoundRole], restrictions: Restrictions) -> Iterator[str]:
    if restrictions.masks_secrets:
        roles = _labels(role for role in allow if any(map(_writes_secrets, role.rules)))
        if roles:
            yield f"mask refuses writes of Secrets, which {roles} of allow covers"
        reading = RequestInfo("get", "", MASKED_RESOURCE, "", WILDCARD, "", "")
        role = RuleSet([role for role in deny if role.namespaces is None]).find_role(reading)
        if role is not None:
            yield f"mask has no effect, because {role} of deny covers reading Secrets"
    if restrictions.dry_run:
        roles = _labels(role for role in allow if any(map(_names_connect, role.rules)))
        if roles:
            yield f"dryRun refuses exec, attach, port-forward, proxies and tokens, which {roles} of allow covers"


def _labels(roles: Iterator[BoundRole]) -> str:
    return ", ".join(role.label for role in roles)


def _writes_secrets(rule: PolicyRule) -> bool:
    return MASKED_RESOURCE in rule.resources and "" in rule.api_groups and not _READS.issuperset(rule.verbs)


def _names_connect(rule: PolicyRule) -> bool:
    return any(resource.partition("/")[2] in _WITHOUT_DRY_RUN for resource in rule.resources)
