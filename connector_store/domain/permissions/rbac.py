"""Kubernetes' RBAC: rules, and whether they allow what a request is taken for.

Matching is that of pkg/apis/rbac/v1/evaluation_helpers.go and plugin/pkg/auth/authorizer/rbac (Kubernetes 1.37); a
`RequestInfo` is what is asked about. Rules are compiled once, so that a decision costs the same for one rule and for
a thousand: each word of a request stands for the set of rules that name it, as the bits of a number.

>>> view = ClusterRole(name="view", rules=(PolicyRule(verbs=("get",), api_groups=("",), resources=("pods",)),))
>>> lent = RuleSet([BoundRole(label="view", rules=view.rules, namespaces=frozenset({"web"}))])
>>> lent.allows(RequestInfo("get", "", "pods", "", "web", "a", "/api/v1/namespaces/web/pods/a"))
'view'
>>> lent.allows(RequestInfo("get", "", "pods", "log", "web", "a", "/api/v1/namespaces/web/pods/a/log"))
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.request_info import RequestInfo

RBAC_GROUP: Final = "rbac.authorization.k8s.io"
RBAC_VERSION: Final = f"{RBAC_GROUP}/v1"
WILDCARD: Final = "*"
MAX_RULES: Final = 4096
"""Of one role: what fits into an object of etcd's usual limit, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """A rule of a Role or ClusterRole (rbac.authorization.k8s.io/v1 PolicyRule)."""

    verbs: tuple[str, ...]
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    """Empty: all names."""
    non_resource_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRole:
    """`rules` of an aggregated role are those that the cluster has put there; none before it has."""

    name: str
    rules: tuple[PolicyRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRole:
    """Rules under the name that an answer gives; for objects of `namespaces`, or everywhere (None).

    With `namespaces` it counts as a RoleBinding in each of them, without as a ClusterRoleBinding.
    """

    label: str
    rules: tuple[PolicyRule, ...]
    namespaces: frozenset[str] | None = None


def parse_cluster_role(raw: Mapping[str, object]) -> ClusterRole:
    """Read a ClusterRole; ParseError for one without a usable name or with fields of a wrong type."""
    fields = Fields(raw, "")
    return ClusterRole(name=parse_role_name(fields.child("metadata"), "name"), rules=parse_rules(fields))


def parse_role_name(fields: Fields, field: str) -> str:
    """The name of a role in that field: a path segment, which may have capitals and colons."""
    role = fields.text(field)
    if role is None or role in (".", "..") or "/" in role or "%" in role:
        raise ParseError(fields.path_of(field), "is not the name of a role: at least one character, no '/' and no '%'")
    return role


def parse_rules(fields: Fields) -> tuple[PolicyRule, ...]:
    """`rules` of a Role or ClusterRole."""
    rules = fields.items("rules")
    if len(rules) > MAX_RULES:
        raise ParseError(fields.path_of("rules"), f"has more than {MAX_RULES} rules")
    return tuple(
        PolicyRule(
            verbs=rule.texts("verbs"),
            api_groups=rule.texts("apiGroups"),
            resources=rule.texts("resources"),
            resource_names=rule.texts("resourceNames"),
            non_resource_urls=rule.texts("nonResourceURLs"),
        )
        for rule in rules
    )


class _WordIndex:
    """Word -> the rules that name it, as bits; `every` has those with `*`, which are in all others too."""

    __slots__ = ("_bits", "wildcard_bits")

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self.wildcard_bits = 0

    def add(self, words: Iterable[str], bit: int) -> None:
        for word in words:
            if word == WILDCARD:
                self.wildcard_bits |= bit
            else:
                self.add_literal(word, bit)

    def add_literal(self, word: str, bit: int) -> None:
        """A word that `*` does not mean everything of."""
        self._bits[word] = self._bits.get(word, 0) | bit

    def with_wildcards(self) -> dict[str, int]:
        """As a dictionary for `get(word, every)`."""
        return {word: bits | self.wildcard_bits for word, bits in self._bits.items()}


class RuleSet:
    """The rules of several roles, compiled; immutable."""

    __slots__ = (
        "_all_groups",
        "_all_names",
        "_all_resources",
        "_all_urls",
        "_all_verbs",
        "_all_namespaces",
        "_groups",
        "_labels",
        "_names",
        "_namespaces",
        "_resources",
        "_url_prefixes",
        "_urls",
        "_verbs",
    )  # fmt: skip

    def __init__(self, roles: Iterable[BoundRole]) -> None:
        verbs, groups, resources, names, urls, namespaces = (_WordIndex() for _ in range(6))
        labels: list[str] = []
        url_prefixes = _WordIndex()
        for role in roles:
            for rule in role.rules:
                bit = 1 << len(labels)
                labels.append(role.label)
                verbs.add(rule.verbs, bit)
                groups.add(rule.api_groups, bit)
                resources.add(rule.resources, bit)
                for name in rule.resource_names:
                    names.add_literal(name, bit)
                names.wildcard_bits |= 0 if rule.resource_names else bit
                urls.add(rule.non_resource_urls, bit)
                for url in rule.non_resource_urls:
                    if url.endswith(WILDCARD):
                        url_prefixes.add_literal(url.rstrip(WILDCARD), bit)
                namespaces.add([WILDCARD] if role.namespaces is None else sorted(role.namespaces), bit)
        self._labels = tuple(labels)
        self._verbs, self._all_verbs = verbs.with_wildcards(), verbs.wildcard_bits
        self._groups, self._all_groups = groups.with_wildcards(), groups.wildcard_bits
        self._resources, self._all_resources = resources.with_wildcards(), resources.wildcard_bits
        self._names, self._all_names = names.with_wildcards(), names.wildcard_bits
        self._urls, self._all_urls = urls.with_wildcards(), urls.wildcard_bits
        self._namespaces, self._all_namespaces = namespaces.with_wildcards(), namespaces.wildcard_bits
        self._url_prefixes = tuple(url_prefixes.with_wildcards().items())

    def __len__(self) -> int:
        """The number of rules."""
        return len(self._labels)

    def find_role(self, info: RequestInfo) -> str | None:
        """The label of the first role with a rule that allows it; None if there is none."""
        verb, group, resource, subresource, namespace, name, path = info
        matches = self._verbs.get(verb, self._all_verbs)
        if not resource:
            matches &= self._all_namespaces & self._match_path(path)
        elif not subresource:
            matches &= self._resources.get(resource, self._all_resources)
        else:
            full_resource, wildcard_resource = f"{resource}/{subresource}", f"*/{subresource}"
            matches &= self._resources.get(full_resource, self._all_resources) | self._resources.get(
                wildcard_resource, 0
            )
        if matches and resource:
            matches &= (
                self._groups.get(group, self._all_groups)
                & self._names.get(name, self._all_names)
                & self._namespaces.get(namespace, self._all_namespaces)
            )
        return self._labels[(matches & -matches).bit_length() - 1] if matches else None

    def _match_path(self, path: str) -> int:
        matches = self._urls.get(path, self._all_urls)
        for prefix, bits in self._url_prefixes:
            if path.startswith(prefix):
                matches |= bits
        return matches
