"""Evaluator of permissions: the requests that the roles of a Connector allow.

A Connector with permissions decides each request as the API server would for a user with the roles of `allow`, less
those of `deny`. It is stricter where the API server makes a second check after it has read the body. The API server
makes that check for the credential, so its result says nothing about the permissions. `docs/permissions.md` has the
reason for each second check.

    evaluator = build_evaluator(permissions, roles.get)
    evaluator.evaluate(RequestAttributes(info=info))     Allowed(role='view') or NotAllowed(…)
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.ineffective_rights import find_ineffective_rights
from connector_store.domain.permissions.mask_gaps import find_mask_gaps
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.rbac import (
    RBAC_GROUP,
    WILDCARD,
    BoundRole,
    ClusterRole,
    PolicyRule,
    RuleSet,
)
from connector_store.domain.permissions.request_attributes import (
    REVIEWS_GROUP,
    STREAM_SUBRESOURCES,
    RequestAttributes,
    is_self_review,
    requires_create,
)
from connector_store.domain.permissions.restrictions import (
    NO_RESTRICTIONS,
    Restrictions,
    Treatment,
    includes_masked,
    restrict,
)

MAX_WIDENED: Final = 64
"""Maximum number of wider evaluators of one Connector, for its access requests."""
DISCOVERY_ROLE: Final = "system:discovery"
"""Role that audit records name for requests that every Connector allows."""
_CERTIFICATES_GROUP: Final = "certificates.k8s.io"
_ADMISSION_GROUP: Final = "admissionregistration.k8s.io"
_WRITES: Final = frozenset({"create", "update", "patch"})
_COLLECTION_VERBS: Final = frozenset({"list", "watch", "deletecollection"})
_ROLES: Final = frozenset({"roles", "clusterroles"})
_BOUND_ROLES: Final = {"rolebindings": ("roles", "clusterroles"), "clusterrolebindings": ("clusterroles",)}
_PARAMETERIZED_RESOURCES: Final = frozenset(
    {
        "validatingadmissionpolicies", "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
    }
)  # fmt: skip
_SIGNER_VERBS: Final = {
    ("certificatesigningrequests", "approval"): "approve",
    ("certificatesigningrequests", "status"): "sign",
    ("clustertrustbundles", ""): "attest",
}
_SECOND_CHECK_GROUPS: Final = frozenset({RBAC_GROUP, _CERTIFICATES_GROUP, _ADMISSION_GROUP})
_NESTED_API = re.compile(r"/[^/]+/(?:.+/)?apis?(?:/|\Z)")
"""A segment `api` or `apis` behind the first one. Gateways serve the APIs of other clusters below such paths, such as
`/k8s/clusters/c-1/api/v1/secrets`, which are not resources here."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The Connector allows the request. `role` is the ClusterRole that allows it, empty without `allow`."""

    role: str
    treatment: Treatment = Treatment.UNCHANGED


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """The Connector does not allow the request.

    `missing` is the missing right. If a second check requires it, `reason` says why.
    """

    missing: RequestInfo
    reason: str = ""
    denied_by: str = ""
    """ClusterRole of `deny`. Empty if no role of `allow` has the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleProblem:
    """Permissions that cannot be evaluated. `message` names the role, the field and the next step."""

    message: str


class PermissionEvaluator:
    """Evaluator of permissions with the rules of their roles. Evaluators of the same roles are equal."""

    __slots__ = ("_allow", "_deny", "_is_restricted", "_named_paths", "_offered", "_roles", "_widened", "restrictions")

    def __init__(
        self,
        allow: tuple[BoundRole, ...] | None,
        deny: tuple[BoundRole, ...],
        restrictions: Restrictions = NO_RESTRICTIONS,
        offered: tuple[ClusterRole, ...] = (),
    ) -> None:
        """`offered` are roles that `widen` can add."""
        self._roles = (allow, deny, restrictions)
        self._offered = offered
        self._widened: dict[tuple[RoleEntry, ...], PermissionEvaluator | None] = {}
        self.restrictions = restrictions
        self._is_restricted = bool(restrictions)
        self._allow = None if allow is None else _compile((*allow, *DEFAULT_ROLES))
        self._deny = _compile(deny, for_deny=True) if deny else None
        self._named_paths = _compile(tuple(map(_only_named_paths, (*(allow or ()), *DEFAULT_ROLES))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PermissionEvaluator) and (
            (other._roles, other._offered) == (self._roles, self._offered)
        )

    def __hash__(self) -> int:
        return hash(self._roles)

    def __repr__(self) -> str:
        rules = "all" if self._allow is None else len(self._allow)
        return f"PermissionEvaluator(allow={rules}, deny={len(self._deny or ())})"

    @property
    def allow(self) -> tuple[BoundRole, ...] | None:
        """Roles of `allow`, or None if everything is allowed."""
        return self._roles[0]

    @property
    def deny(self) -> tuple[BoundRole, ...]:
        return self._roles[1]

    @property
    def ineffective_rights(self) -> tuple[str, ...] | None:
        """Fields that do not work together. None without a mask and without dryRun."""
        return find_ineffective_rights(self.allow, self.deny, self.restrictions) if self.restrictions else None

    @property
    def mask_gaps(self) -> tuple[str, ...] | None:
        """Parts of `connectors-credentials` that `deny` needs next to the mask. None without a mask."""
        return find_mask_gaps(self.allow, self.deny) if self.restrictions.masks_secrets else None

    def widen(self, entries: tuple[RoleEntry, ...]) -> "PermissionEvaluator | None":
        """Return an evaluator that also allows what `entries` allow. `deny` and the restrictions stay.

        Return None if one of their roles does not exist, or if everything is allowed already.
        """
        if entries not in self._widened:
            if len(self._widened) >= MAX_WIDENED:
                self._widened.clear()
            self._widened[entries] = self._widen(entries)
        return self._widened[entries]

    def _widen(self, entries: tuple[RoleEntry, ...]) -> "PermissionEvaluator | None":
        allow, deny, restrictions = self._roles
        rules = {role.name: role.rules for role in self._offered}
        if allow is None or not all(entry.cluster_role in rules for entry in entries):
            return None
        added = (
            BoundRole(label=entry.cluster_role, rules=rules[entry.cluster_role], namespaces=entry.namespaces)
            for entry in entries
        )
        return PermissionEvaluator((*allow, *added), deny, restrictions)

    def evaluate(self, attributes: RequestAttributes) -> Allowed | NotAllowed:
        """Decide a request, including its second checks."""
        info, is_canonical, is_upgrade, may_create, _ = attributes
        if not is_canonical:
            return NotAllowed(info, "only canonical paths are allowed: no empty or dot segments, few escapes")
        result = self._evaluate_right(info, "")
        if not isinstance(result, Allowed):
            return result
        _, group, resource, subresource, _, _, path = info
        if not resource and _NESTED_API.match(path) is not None:
            role = self._named_paths.find_role(info)
            return (
                NotAllowed(info, "an API may lie below this path, so a role must name it") if role is None else result
            )
        if may_create or is_upgrade or subresource in STREAM_SUBRESOURCES or group in _SECOND_CHECK_GROUPS:
            for required, reason in _second_checks(attributes):
                required_result = self._evaluate_right(required, reason)
                if isinstance(required_result, NotAllowed):
                    return required_result
                if includes_masked(self.restrictions, required):
                    return NotAllowed(required, f"{reason}, and Secrets are masked")
        if self._is_restricted or group == REVIEWS_GROUP:
            return self._restrict(result, attributes)
        return result

    def _restrict(self, result: Allowed, attributes: RequestAttributes) -> Allowed | NotAllowed:
        """Add the treatment of a request that the roles allow."""
        info = attributes.info
        if is_self_review(info):
            return _allowed(result.role, Treatment.REVIEW)
        if self.restrictions.masks_secrets and not info.resource and _PUBLIC_PATHS.find_role(info) is None:
            return NotAllowed(info, "Secrets are masked, so only discovery, OpenAPI, health and version are allowed")
        treatment = restrict(self.restrictions, info, attributes.query, is_upgrade=attributes.is_upgrade)
        if isinstance(treatment, str):
            return NotAllowed(info, treatment)
        return result if treatment is Treatment.UNCHANGED else _allowed(result.role, treatment)

    def _evaluate_right(self, info: RequestInfo, reason: str) -> Allowed | NotAllowed:
        denied_by = self._deny.find_role(_widen(info)) if self._deny is not None else None
        if denied_by is not None:
            return NotAllowed(info, reason, denied_by)
        if self._allow is None:
            return _ALL_ALLOWED
        role = self._allow.find_role(info)
        return NotAllowed(info, reason) if role is None else _allowed(role)


_allowed = lru_cache(maxsize=1024)(Allowed)
_ALL_ALLOWED: Final = Allowed("")


@lru_cache(maxsize=256)
def _compile(roles: tuple[BoundRole, ...], *, for_deny: bool = False) -> RuleSet:
    """Compile roles. Connectors with the same permissions share the result."""
    return RuleSet(roles, for_deny=for_deny)


def _only_named_paths(role: BoundRole) -> BoundRole:
    """Return `role` with only its non-resource paths, without patterns that match every path."""
    rules = (
        replace(rule, api_groups=(), resources=(), non_resource_urls=urls)
        for rule in role.rules
        if (urls := tuple(url for url in rule.non_resource_urls if url.strip("/*")))
    )
    return replace(role, rules=tuple(rules))


def _widen(info: RequestInfo) -> RequestInfo:
    """Return `info` with the namespace `*` if the request can reach objects of all namespaces.

    Such a request has no namespace. It names a collection, or is a second check for objects of any name. A request to
    create an object without a namespace creates one of the cluster.
    """
    if info.namespace or (info.verb not in _COLLECTION_VERBS and (info.name or info.verb == "create")):
        return info
    return info._replace(namespace=WILDCARD)


def build_evaluator(
    permissions: Permissions, get_role: Callable[[str], ClusterRole | None]
) -> PermissionEvaluator | RoleProblem:
    """Build the evaluator of `permissions`.

    Return a problem if a role does not exist, or if a role of `deny` has no rules. A role of `onRequest` that does not
    exist is not offered.
    """
    bound_roles: dict[str, tuple[BoundRole, ...]] = {}
    for field, entries in (("allow", permissions.allow or ()), ("deny", permissions.deny)):
        roles = []
        for index, entry in enumerate(entries):
            path = f"spec.permissions.{field}[{index}].clusterRole"
            cluster_role = get_role(entry.cluster_role)
            if cluster_role is None:
                return RoleProblem(
                    message=f'clusterroles.{RBAC_GROUP} "{entry.cluster_role}" not found; create it, or change {path}'
                )
            if field == "deny" and not cluster_role.rules:
                return RoleProblem(
                    message=f'clusterroles.{RBAC_GROUP} "{entry.cluster_role}" has no rules, so it denies nothing; '
                    f"give it rules, wait until the cluster has filled it, or change {path}"
                )
            roles.append(BoundRole(label=entry.cluster_role, rules=cluster_role.rules, namespaces=entry.namespaces))
        bound_roles[field] = tuple(roles)
    offered = {entry.cluster_role: get_role(entry.cluster_role) for entry in permissions.on_request}
    return PermissionEvaluator(
        None if permissions.allow is None else bound_roles["allow"],
        bound_roles["deny"],
        permissions.restrictions,
        tuple(role for role in offered.values() if role is not None),
    )


def _second_checks(attributes: RequestAttributes) -> Iterator[tuple[RequestInfo, str]]:
    """Yield each further right that a request needs, and the reason."""
    info = attributes.info
    verb, group, resource, subresource = info.verb, info.group, info.resource, info.subresource
    if attributes.may_create and not subresource:
        yield info._replace(verb="create"), "this request creates what is not there"
    if verb != "create" and requires_create(subresource, is_upgrade=attributes.is_upgrade):
        yield info._replace(verb="create"), "this request opens a stream"
    if verb not in _WRITES:
        return
    if group == RBAC_GROUP and resource in _ROLES:
        yield info._replace(verb="escalate"), "its rules may be any"
    elif group == RBAC_GROUP and resource in _BOUND_ROLES:
        for role_resource in _BOUND_ROLES[resource]:
            yield info._replace(verb="bind", resource=role_resource, subresource="", name=""), "it may bind any role"
    elif group == _CERTIFICATES_GROUP and (resource, subresource) in _SIGNER_VERBS:
        signer = info._replace(
            verb=_SIGNER_VERBS[resource, subresource], resource="signers", subresource="", namespace="", name=""
        )
        yield signer, "it may be of any signer"
    elif group == _ADMISSION_GROUP and resource in _PARAMETERIZED_RESOURCES:
        everything = info._replace(verb="get", group="*", resource="*", subresource="", namespace="", name="")
        yield everything, "its parameters may be any object"


def _build_default_roles() -> tuple[BoundRole, ...]:
    """Build the roles of every Kubernetes user: system:discovery, system:basic-user and system:public-info-viewer."""
    paths = (
        "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version",
        "/version/",
    )  # fmt: skip
    return (
        BoundRole(label=DISCOVERY_ROLE, rules=(PolicyRule(verbs=("get",), non_resource_urls=paths),)),
        BoundRole(
            label="system:basic-user",
            rules=(
                PolicyRule(
                    verbs=("create",),
                    api_groups=("authorization.k8s.io",),
                    resources=("selfsubjectaccessreviews", "selfsubjectrulesreviews"),
                ),
                PolicyRule(verbs=("create",), api_groups=("authentication.k8s.io",), resources=("selfsubjectreviews",)),
            ),
        ),
    )


DEFAULT_ROLES: Final = _build_default_roles()
"""Roles that every Connector allows."""
_PUBLIC_PATHS: Final = _compile(DEFAULT_ROLES)
"""Non-resource paths that every Connector allows."""
