"""Kubernetes' RBAC: rules, roles and their evaluation for a request.

Matching follows pkg/apis/rbac/v1/evaluation_helpers.go and plugin/pkg/auth/authorizer/rbac (Kubernetes 1.37). Rules
are compiled once, so that a decision costs the same for one rule and for a thousand. The compiled form maps each word
of a request to the set of rules that contain it, as bits of an integer.

>>> view = ClusterRole(name="view", rules=(PolicyRule(verbs=("get",), api_groups=("",), resources=("pods",)),))
>>> rules = RuleSet([BoundRole(label="view", rules=view.rules, namespaces=frozenset({"web"}))])
>>> rules.find_role(RequestInfo("get", "", "pods", "", "web", "a", "/api/v1/namespaces/web/pods/a"))
'view'
>>> rules.find_role(RequestInfo("get", "", "pods", "log", "web", "a", "/api/v1/namespaces/web/pods/a/log"))
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
"""Maximum number of rules in one role. No more fit into an object within etcd's usual limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """A rule of a Role or ClusterRole (rbac.authorization.k8s.io/v1 PolicyRule)."""

    verbs: tuple[str, ...]
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    """Names of objects. Empty means all."""
    non_resource_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRole:
    """A ClusterRole. The cluster writes the rules of an aggregated role, so they can be empty at first."""

    name: str
    rules: tuple[PolicyRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRole:
    """Rules of a role that is bound. `label` is the name that decisions report.

    With `namespaces`, it is like a RoleBinding in each of them. With None, it is like a ClusterRoleBinding.
    """

    label: str
    rules: tuple[PolicyRule, ...]
    namespaces: frozenset[str] | None = None


def parse_cluster_role(raw: Mapping[str, object]) -> ClusterRole:
    """Parse a ClusterRole. Raises ParseError without a valid name, or if a field has the wrong type."""
    fields = Fields(raw, "")
    return ClusterRole(name=parse_role_name(fields.child("metadata"), "name"), rules=parse_rules(fields))


def parse_role_name(fields: Fields, field: str) -> str:
    """Return the name of a role in `field`. It is a path segment, which can contain capitals and colons."""
    role = fields.text(field)
    if role is None or role in (".", "..") or "/" in role or "%" in role or not role.isprintable():
        raise ParseError(fields.path_of(field), "is not the name of a role: printable characters, no '/' and no '%'")
    return role


def parse_rules(fields: Fields) -> tuple[PolicyRule, ...]:
    """Parse `rules` of a Role or ClusterRole."""
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
    """Index from words to rules, as bits. `wildcard_bits` are the rules with `*`, which match every word."""

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
        """Add a word for which `*` has no special meaning."""
        self._bits[word] = self._bits.get(word, 0) | bit

    def with_wildcards(self) -> dict[str, int]:
        """Return a dictionary for look-ups by `get(word, wildcard_bits)`."""
        return {word: bits | self.wildcard_bits for word, bits in self._bits.items()}


class RuleSet:
    """Compiled rules of several roles. Immutable."""

    __slots__ = (
        "_all_groups",
        "_all_names",
        "_all_namespaces",
        "_all_resources",
        "_all_urls",
        "_all_verbs",
        "_groups",
        "_labels",
        "_names",
        "_namespaces",
        "_resources",
        "_url_prefixes",
        "_urls",
        "_verbs",
    )  # fmt: skip

    def __init__(self, roles: Iterable[BoundRole], *, for_deny: bool = False) -> None:
        """Compile roles.

        With `for_deny`, a rule matches each request that can reach one of its objects. A request without a name can
        reach objects of any name. `*` as the namespace, the API group or the resource of a request stands for all.
        """
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
                if for_deny and rule.resources:
                    names.add_literal("", bit)
                    for index in (namespaces, groups, resources):
                        index.add_literal(WILDCARD, bit)
        self._labels = tuple(labels)
        self._verbs, self._all_verbs = verbs.with_wildcards(), verbs.wildcard_bits
        self._groups, self._all_groups = groups.with_wildcards(), groups.wildcard_bits
        self._resources, self._all_resources = resources.with_wildcards(), resources.wildcard_bits
        self._names, self._all_names = names.with_wildcards(), names.wildcard_bits
        self._urls, self._all_urls = urls.with_wildcards(), urls.wildcard_bits
        self._namespaces, self._all_namespaces = namespaces.with_wildcards(), namespaces.wildcard_bits
        self._url_prefixes = tuple(url_prefixes.with_wildcards().items())

    def __len__(self) -> int:
        """Return the number of rules."""
        return len(self._labels)

    def find_role(self, info: RequestInfo) -> str | None:
        """Return the label of the first role with a rule that allows the request, or None."""
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
