"""Permissions of a Connector (`spec.permissions`): the requests that it allows, as RBAC roles.

A Connector with permissions decides each request as the API server would for a user with the roles of `allow`, less
those of `deny`. It is stricter where the API server makes a second check after it has read the body. The API server
makes that check for the credential, so its result says nothing about the permissions. `docs/permissions.md` has the
reason for each second check.

    permissions = parse_permissions(spec)
    evaluator = build_evaluator(permissions, roles.get)
    evaluator.evaluate(RequestAttributes(info=info))     Allowed(role='view') or NotAllowed(…)
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import is_dns_label
from connector_store.domain.base.request_info import RequestInfo, parse_request
from connector_store.domain.permissions.rbac import (
    RBAC_GROUP,
    WILDCARD,
    BoundRole,
    ClusterRole,
    PolicyRule,
    RuleSet,
    parse_role_name,
)

MAX_ENTRIES: Final = 32
"""Maximum number of entries in `allow`, and in `deny`."""
MAX_NAMESPACES: Final = 256
"""Maximum number of namespaces in one entry."""
MAX_QUERY_PAIRS: Final = 1000
"""Maximum number of pairs in a query. Servers ignore a longer query with its selectors (Go: 10,000 pairs)."""
DISCOVERY_ROLE: Final = "system:discovery"
"""Role that audit records name for requests that every Connector allows."""

_CERTIFICATES_GROUP: Final = "certificates.k8s.io"
_ADMISSION_GROUP: Final = "admissionregistration.k8s.io"
_STREAM_SUBRESOURCES: Final = frozenset({"exec", "attach", "portforward"})
_READ_BY_UPGRADE: Final = frozenset({"", "log"})
"""Subresources that an upgrade only reads. The empty one is an object or a collection, which can be watched."""
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
_SELF_REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"})
_SIGNER_VERBS: Final = {
    ("certificatesigningrequests", "approval"): "approve",
    ("certificatesigningrequests", "status"): "sign",
    ("clustertrustbundles", ""): "attest",
}
_SECOND_CHECK_GROUPS: Final = frozenset({RBAC_GROUP, _CERTIFICATES_GROUP, _ADMISSION_GROUP})
_NON_APPLY_PATCHES: Final = frozenset(
    {b"application/json-patch+json", b"application/merge-patch+json", b"application/strategic-merge-patch+json"}
)

_CANONICAL_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@|^\"<>{}\[\]`%-]+)*/?")
_NESTED_API = re.compile(r"/[^/]+/(?:.+/)?apis?(?:/|\Z)")
"""A segment `api` or `apis` behind the first one. Gateways serve the APIs of other clusters below such paths, such as
`/k8s/clusters/c-1/api/v1/secrets`, which are not resources here."""
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|$)")
_ESCAPE = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_PRINTABLE = re.compile(r"[ -~]*")
_DELIMITER = re.compile(r"[/\\%;?#]")
_MAX_CACHED_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEntry:
    """An entry of `allow` or `deny`. `namespaces` is None for all namespaces."""

    cluster_role: str
    namespaces: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Parsed `spec.permissions`. `allow` is None for everything that the credential can do."""

    allow: tuple[RoleEntry, ...] | None
    deny: tuple[RoleEntry, ...] = ()

    @property
    def role_names(self) -> frozenset[str]:
        return frozenset(entry.cluster_role for entry in (*(self.allow or ()), *self.deny))


class RequestAttributes(NamedTuple):
    """Attributes of a request that permissions depend on. It is a tuple because each request creates one.

    `is_canonical`: every server reads the path alike. `is_upgrade`: the request asks for another protocol.
    `may_create`: the request can create the object that its path names, as a PUT can.
    """

    info: RequestInfo
    is_canonical: bool = True
    is_upgrade: bool = False
    may_create: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """The Connector allows the request. `role` is the ClusterRole that allows it, empty without `allow`."""

    role: str


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


def parse_permissions(spec: Fields) -> Permissions | None:
    """Parse `permissions` of a Connector's spec. Return None if it is absent. ParseError names the field."""
    fields = spec.child("permissions")
    if spec.value("permissions") is None:
        return None
    unknown = sorted(set(fields.names()) - {"allow", "deny"})
    if unknown:
        raise ParseError(fields.path_of(unknown[0]), "is not a field; permissions have allow and deny")
    allow, deny = _parse_entries(fields, "allow"), _parse_entries(fields, "deny")
    if not allow and not deny:
        raise ParseError(fields.path, "has neither allow nor deny; name a ClusterRole in one of them, or leave it out")
    return Permissions(allow=allow, deny=deny or ())


def _parse_entries(fields: Fields, name: str) -> tuple[RoleEntry, ...] | None:
    if fields.value(name) is None:
        return None
    entries = fields.items(name)
    if not entries:
        raise ParseError(fields.path_of(name), "is empty; name a ClusterRole, or leave the field out")
    if len(entries) > MAX_ENTRIES:
        raise ParseError(fields.path_of(name), f"has more than {MAX_ENTRIES} entries")
    return tuple(_parse_entry(entry) for entry in entries)


def _parse_entry(fields: Fields) -> RoleEntry:
    unknown = sorted(set(fields.names()) - {"clusterRole", "namespaces"})
    if unknown:
        raise ParseError(fields.path_of(unknown[0]), "is not a field; an entry has clusterRole and namespaces")
    return RoleEntry(cluster_role=parse_role_name(fields, "clusterRole"), namespaces=_parse_namespaces(fields))


def _parse_namespaces(fields: Fields) -> frozenset[str] | None:
    if fields.value("namespaces") is None:
        return None
    namespaces = fields.texts("namespaces")
    path = fields.path_of("namespaces")
    if not namespaces:
        raise ParseError(path, "is empty; name a namespace, or leave the field out to mean all")
    if len(namespaces) > MAX_NAMESPACES:
        raise ParseError(path, f"has more than {MAX_NAMESPACES} namespaces")
    for index, namespace in enumerate(namespaces):
        if not is_dns_label(namespace):
            raise ParseError(f"{path}[{index}]", "is not the name of a namespace")
    return frozenset(namespaces)


class PermissionEvaluator:
    """Evaluator of permissions with the rules of their roles. Evaluators of the same roles are equal."""

    __slots__ = ("_allow", "_deny", "_named_paths", "_roles")

    def __init__(self, allow: tuple[BoundRole, ...] | None, deny: tuple[BoundRole, ...]) -> None:
        self._roles = (allow, deny)
        self._allow = None if allow is None else _compile((*allow, *_DEFAULT_ROLES))
        self._deny = _compile(deny, for_deny=True) if deny else None
        self._named_paths = _compile(tuple(map(_only_named_paths, (*(allow or ()), *_DEFAULT_ROLES))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PermissionEvaluator) and other._roles == self._roles

    def __hash__(self) -> int:
        return hash(self._roles)

    def __repr__(self) -> str:
        rules = "all" if self._allow is None else len(self._allow)
        return f"PermissionEvaluator(allow={rules}, deny={len(self._deny or ())})"

    def evaluate(self, attributes: RequestAttributes) -> Allowed | NotAllowed:
        """Decide a request, including its second checks."""
        info, is_canonical, is_upgrade, may_create = attributes
        if not is_canonical:
            return NotAllowed(info, "only paths in their plain form are lent: no empty or dot segments, few escapes")
        result = self._evaluate_right(info, "")
        if not info.resource and isinstance(result, Allowed) and _NESTED_API.match(info.path) is not None:
            role = self._named_paths.find_role(info)
            return (
                NotAllowed(info, "an API may lie below this path, so a role must name it") if role is None else result
            )
        if isinstance(result, Allowed) and (
            may_create or is_upgrade or info.subresource in _STREAM_SUBRESOURCES or info.group in _SECOND_CHECK_GROUPS
        ):
            for required, reason in _second_checks(attributes):
                required_result = self._evaluate_right(required, reason)
                if isinstance(required_result, NotAllowed):
                    return required_result
        return result

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

    Return a problem if a role does not exist, or if a role of `deny` has no rules.
    """
    bound_roles: dict[str, tuple[BoundRole, ...]] = {}
    for field, entries in (("allow", permissions.allow or ()), ("deny", permissions.deny)):
        roles = []
        for index, entry in enumerate(entries):
            path = f"spec.permissions.{field}[{index}].clusterRole"
            cluster_role = get_role(entry.cluster_role)
            if cluster_role is None:
                return RoleProblem(
                    message=f'clusterroles.{RBAC_GROUP} "{entry.cluster_role}" not found; create it, or mend {path}'
                )
            if field == "deny" and not cluster_role.rules:
                return RoleProblem(
                    message=f'clusterroles.{RBAC_GROUP} "{entry.cluster_role}" has no rules, so it denies nothing; '
                    f"give it rules, wait until the cluster has filled it, or mend {path}"
                )
            roles.append(BoundRole(label=entry.cluster_role, rules=cluster_role.rules, namespaces=entry.namespaces))
        bound_roles[field] = tuple(roles)
    return PermissionEvaluator(None if permissions.allow is None else bound_roles["allow"], bound_roles["deny"])


def parse_request_attributes(method: bytes, raw_target: bytes, headers: Headers, prefix: str) -> RequestAttributes:
    """Parse the attributes of a request.

    `prefix` is the path of the target's address, which the API server behind it does not see.
    """
    target = raw_target.decode("ascii")
    return RequestAttributes(
        info=parse_request(method.decode("ascii"), target, prefix),
        is_canonical=is_canonical_path(target),
        is_upgrade=headers.upgrade_protocol is not None,
        may_create=method in _CREATING_METHODS and may_create(method, tuple(headers.values(b"content-type"))),
    )


def is_self_review(info: RequestInfo) -> bool:
    """Return True for a self-review. The target answers it for the credential."""
    return info.group == "authorization.k8s.io" and info.verb == "create" and info.resource in _SELF_REVIEWS


def is_canonical_path(target: str) -> bool:
    """Return True if every server reads the path of a request target alike.

    A server in front of the API server then reads the same path as the API server. The path has no empty segments, no
    dot segments, and no escapes of delimiters or of anything other than printable ASCII.
    """
    return _is_canonical_path(target) if len(target) > _MAX_CACHED_LENGTH else _is_canonical_path_cached(target)


def _is_canonical_path(target: str) -> bool:
    path, _, query = target.partition("?")
    if query.count("&") >= MAX_QUERY_PAIRS or _CANONICAL_PATH.fullmatch(path) is None:
        return False
    if "%" in path:
        if any(len(escape) == 1 for escape in _ESCAPE.findall(path)):
            return False
        escaped = "".join(unquote(escape, "latin-1") for escape in _ESCAPE.findall(path))
        if _PRINTABLE.fullmatch(escaped) is None or _DELIMITER.search(escaped) is not None:
            return False
        path = unquote(path)
    return _DOT_SEGMENT.search(path) is None


_is_canonical_path_cached = lru_cache(maxsize=2048)(_is_canonical_path)


_CREATING_METHODS: Final = frozenset({b"PUT", b"PATCH"})


def may_create(method: bytes, content_types: tuple[bytes, ...]) -> bool:
    """Return True if a request can create the object that its path names: PUT, and PATCH by server-side apply.

    A PATCH of an unknown type counts as server-side apply. `content_types` are the values of Content-Type, one in a
    valid request.
    """
    if method == b"PUT":
        return True
    if method != b"PATCH":
        return False
    return len(content_types) != 1 or content_types[0].partition(b";")[0] not in _NON_APPLY_PATCHES


def requires_create(subresource: str, *, is_upgrade: bool) -> bool:
    """Return True if a request of a subresource opens a stream, for which any verb also requires `create`.

    An upgrade of any subresource except `log` does, because servers behind the API server define more of them
    (KubeVirt: `console`, `vnc`).
    """
    return subresource not in _READ_BY_UPGRADE if is_upgrade else subresource in _STREAM_SUBRESOURCES


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


_DEFAULT_ROLES: Final = _build_default_roles()
