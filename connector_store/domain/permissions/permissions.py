"""What a Connector lends of what its credential can do: `spec.permissions`, in RBAC's own words.

A limited Connector answers each request as the API server would answer a user who is bound to the roles of `allow`
and to none of `deny`, and is stricter in what the API server decides with a second question: it asks that about the
credential, whose answer says nothing of what is lent. `docs/permissions.md` has a reason for each.

    permissions = parse_permissions(spec)
    lending = lend(permissions, roles.get)
    lending.decide(Asked(info=info, plain=True))     Lent(role='view') or NotLent(…)
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.headers import Fields as Headers
from connector_store.domain.base.names import is_label
from connector_store.domain.base.request_info import RequestInfo, parse_request
from connector_store.domain.permissions.rbac import RBAC_GROUP, BoundRole, ClusterRole, PolicyRule, RuleSet, role_name

MAX_ENTRIES: Final = 32
"""Of `allow`, and of `deny`."""
MAX_NAMESPACES: Final = 256
"""Of one entry."""
MAX_QUERY_PAIRS: Final = 1000
"""Servers count a query's pairs and read a longer one as none (Go: 10,000): its selectors would be gone."""
ALWAYS: Final = "system:discovery"
"""The role in audit lines of what every limited Connector lends."""

_CERTIFICATES: Final = "certificates.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
UPGRADED: Final = frozenset({"exec", "attach", "portforward", "proxy"})
_WRITES: Final = frozenset({"create", "update", "patch"})
_ROLES: Final = frozenset({"roles", "clusterroles"})
_BINDINGS: Final = {"rolebindings": ("roles", "clusterroles"), "clusterrolebindings": ("clusterroles",)}
_PARAMETERISED: Final = frozenset(
    {
        "validatingadmissionpolicies", "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
    }
)  # fmt: skip
_REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"})
_SIGNER_VERBS: Final = {
    ("certificatesigningrequests", "approval"): "approve",
    ("certificatesigningrequests", "status"): "sign",
    ("clustertrustbundles", ""): "attest",
}
_GUARDED: Final = frozenset({RBAC_GROUP, _CERTIFICATES, _ADMISSION})
_OTHER_PATCHES: Final = frozenset(
    {b"application/json-patch+json", b"application/merge-patch+json", b"application/strategic-merge-patch+json"}
)

_PLAIN = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@|^\"<>{}\[\]`%-]+)*/?")
_DOTS = re.compile(r"/\.{1,2}(?:/|$)")
_ESCAPE = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_DECODED = re.compile(r"[ -~]*")
_AMBIGUOUS = re.compile(r"[/\\%;?#]")
_MAX_CACHED: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEntry:
    """One entry of `allow` or `deny`; `namespaces` None: everywhere."""

    cluster_role: str
    namespaces: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """`spec.permissions`; `allow` None: all that the credential may do."""

    allow: tuple[RoleEntry, ...] | None
    deny: tuple[RoleEntry, ...] = ()

    @property
    def role_names(self) -> frozenset[str]:
        return frozenset(each.cluster_role for each in (*(self.allow or ()), *self.deny))


class Asked(NamedTuple):
    """A request as far as permissions look at it; a tuple, because one is made for every request.

    `plain`: its path is written in the one way that all servers read alike. `upgrade`: it asks for another protocol.
    `may_create`: its body may create what its path names, as that of a PUT.
    """

    info: RequestInfo
    plain: bool = True
    upgrade: bool = False
    may_create: bool = False


@dataclass(frozen=True, slots=True)
class Lent:
    """`role` is the ClusterRole that allows it; empty where all is lent but what `deny` names."""

    role: str


@dataclass(frozen=True, slots=True)
class NotLent:
    """`missing` is what is not lent, which is not always what was asked for; `why` says then what it is needed for."""

    missing: RequestInfo
    why: str = ""
    denied_by: str = ""
    """The ClusterRole of `deny`; empty where none of `allow` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleProblem:
    """Why permissions cannot be kept: the field, and what to do."""

    message: str


def parse_permissions(spec: Fields) -> Permissions | None:
    """`permissions` of a Connector's spec; None if it is absent. ParseError names the field."""
    found = spec.child("permissions")
    if spec.value("permissions") is None:
        return None
    unknown = sorted(set(found.names()) - {"allow", "deny"})
    if unknown:
        raise ParseError(found.at(unknown[0]), "is not a field; permissions have allow and deny")
    allow, deny = _entries(found, "allow"), _entries(found, "deny")
    if not allow and not deny:
        raise ParseError(found.path, "has neither allow nor deny; name a ClusterRole in one of them, or leave it out")
    return Permissions(allow=allow, deny=deny or ())


def _entries(found: Fields, name: str) -> tuple[RoleEntry, ...] | None:
    if found.value(name) is None:
        return None
    entries = found.items(name)
    if not entries:
        raise ParseError(found.at(name), "is empty; name a ClusterRole, or leave the field out")
    if len(entries) > MAX_ENTRIES:
        raise ParseError(found.at(name), f"has more than {MAX_ENTRIES} entries")
    return tuple(_entry(each) for each in entries)


def _entry(found: Fields) -> RoleEntry:
    unknown = sorted(set(found.names()) - {"clusterRole", "namespaces"})
    if unknown:
        raise ParseError(found.at(unknown[0]), "is not a field; an entry has clusterRole and namespaces")
    return RoleEntry(cluster_role=role_name(found, "clusterRole"), namespaces=_namespaces(found))


def _namespaces(found: Fields) -> frozenset[str] | None:
    if found.value("namespaces") is None:
        return None
    namespaces = found.texts("namespaces")
    path = found.at("namespaces")
    if not namespaces:
        raise ParseError(path, "is empty; name a namespace, or leave the field out to mean all")
    if len(namespaces) > MAX_NAMESPACES:
        raise ParseError(path, f"has more than {MAX_NAMESPACES} namespaces")
    for index, each in enumerate(namespaces):
        if not is_label(each):
            raise ParseError(f"{path}[{index}]", "is not the name of a namespace")
    return frozenset(namespaces)


class Lending:
    """Permissions with the rules of their roles. Two are equal if they were made of the same."""

    __slots__ = ("_allow", "_deny", "_made_of")

    def __init__(self, allow: tuple[BoundRole, ...] | None, deny: tuple[BoundRole, ...]) -> None:
        self._made_of = (allow, deny)
        self._allow = None if allow is None else _compiled((*allow, *_ALWAYS_LENT))
        self._deny = _compiled(deny) if deny else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lending) and other._made_of == self._made_of

    def __hash__(self) -> int:
        return hash(self._made_of)

    def __repr__(self) -> str:
        rules = "all" if self._allow is None else len(self._allow)
        return f"Lending(allow={rules}, deny={len(self._deny or ())})"

    def decide(self, asked: Asked) -> Lent | NotLent:
        """Whether the Connector lends what the request is taken for, and all else that it may come to."""
        info, plain, _, may_create = asked
        if not plain:
            return NotLent(info, "only paths in their plain form are lent: no empty or dot segments, few escapes")
        lent = self._one(info, "")
        if isinstance(lent, Lent) and (may_create or info.subresource in UPGRADED or info.group in _GUARDED):
            for further, why in _further(asked):
                missing = self._one(further, why)
                if isinstance(missing, NotLent):
                    return missing
        return lent

    def _one(self, info: RequestInfo, why: str) -> Lent | NotLent:
        denied = self._deny.allows(info) if self._deny is not None else None
        if denied is not None:
            return NotLent(info, why, denied)
        if self._allow is None:
            return _LENT_ALL
        role = self._allow.allows(info)
        return NotLent(info, why) if role is None else _lent(role)


_lent = lru_cache(maxsize=1024)(Lent)
_LENT_ALL: Final = Lent("")


@lru_cache(maxsize=256)
def _compiled(roles: tuple[BoundRole, ...]) -> RuleSet:
    """Connectors that lend the same share what was made of it."""
    return RuleSet(roles)


def lend(permissions: Permissions, role: Callable[[str], ClusterRole | None]) -> Lending | RoleProblem:
    """Permissions with the roles that they name; a problem if one is not there, or denies nothing."""
    found: dict[str, tuple[BoundRole, ...]] = {}
    for field, entries in (("allow", permissions.allow or ()), ("deny", permissions.deny)):
        bound = []
        for index, entry in enumerate(entries):
            path = f"spec.permissions.{field}[{index}].clusterRole"
            cluster_role = role(entry.cluster_role)
            if cluster_role is None:
                return RoleProblem(
                    message=f'clusterroles.{RBAC_GROUP} "{entry.cluster_role}" not found; create it, or mend {path}'
                )
            if field == "deny" and not cluster_role.rules:
                return RoleProblem(
                    message=f'clusterroles.{RBAC_GROUP} "{entry.cluster_role}" has no rules, so it denies nothing; '
                    f"give it rules, wait until the cluster has filled it, or mend {path}"
                )
            bound.append(BoundRole(label=entry.cluster_role, rules=cluster_role.rules, namespaces=entry.namespaces))
        found[field] = tuple(bound)
    return Lending(None if permissions.allow is None else found["allow"], found["deny"])


def asked_for(method: bytes, raw_target: bytes, headers: Headers, prefix: str) -> Asked:
    """A request to a server that does not see the `prefix` of its path."""
    target = raw_target.decode("ascii")
    return Asked(
        info=parse_request(method.decode("ascii"), target, prefix),
        plain=is_plain(target),
        upgrade=headers.asked_upgrade is not None,
        may_create=method in _MAY_CREATE and may_create(method, tuple(headers.values(b"content-type"))),
    )


def reviews_oneself(info: RequestInfo) -> bool:
    """True for what asks the target for the rights of whoever asks: there, those of the credential."""
    return info.group == "authorization.k8s.io" and info.verb == "create" and info.resource in _REVIEWS


def is_plain(target: str) -> bool:
    """True if the path of a request target is written as all servers read it alike.

    So whatever stands before an API server finds in it what the API server finds: no empty segments, none of dots, no
    escape that stands for a delimiter or for what is no printable ASCII.
    """
    return _is_plain(target) if len(target) > _MAX_CACHED else _is_plain_cached(target)


def _is_plain(target: str) -> bool:
    path, _, query = target.partition("?")
    if query.count("&") >= MAX_QUERY_PAIRS or _PLAIN.fullmatch(path) is None:
        return False
    if "%" in path:
        if any(len(each) == 1 for each in _ESCAPE.findall(path)):
            return False
        escaped = "".join(unquote(each, "latin-1") for each in _ESCAPE.findall(path))
        if _DECODED.fullmatch(escaped) is None or _AMBIGUOUS.search(escaped) is not None:
            return False
        path = unquote(path)
    return _DOTS.search(path) is None


_is_plain_cached = lru_cache(maxsize=2048)(_is_plain)


_MAY_CREATE: Final = frozenset({b"PUT", b"PATCH"})


def may_create(method: bytes, content_types: tuple[bytes, ...]) -> bool:
    """True for what may create the object of its path: PUT, and PATCH by apply (or of a type that is not known).

    `content_types` are the values of Content-Type, one if all is well.
    """
    if method == b"PUT":
        return True
    if method != b"PATCH":
        return False
    return len(content_types) != 1 or content_types[0].partition(b";")[0] not in _OTHER_PATCHES


def _further(asked: Asked) -> Iterator[tuple[RequestInfo, str]]:
    """What a request may come to beside what its path says, and why."""
    info = asked.info
    verb, group, resource, subresource = info.verb, info.group, info.resource, info.subresource
    if asked.may_create and not subresource:
        yield info._replace(verb="create"), "this request creates what is not there"
    if subresource in UPGRADED and verb != "create" and (asked.upgrade or subresource != "proxy"):
        yield info._replace(verb="create"), "this request opens a stream"
    if verb not in _WRITES:
        return
    if group == RBAC_GROUP and resource in _ROLES:
        yield info._replace(verb="escalate"), "its rules may be any"
    elif group == RBAC_GROUP and resource in _BINDINGS:
        for each in _BINDINGS[resource]:
            yield info._replace(verb="bind", resource=each, subresource="", name=""), "it may bind any role"
    elif group == _CERTIFICATES and (resource, subresource) in _SIGNER_VERBS:
        needed = info._replace(
            verb=_SIGNER_VERBS[resource, subresource], resource="signers", subresource="", namespace="", name=""
        )
        yield needed, "it may be of any signer"
    elif group == _ADMISSION and resource in _PARAMETERISED:
        everything = info._replace(verb="get", group="*", resource="*", subresource="", namespace="", name="")
        yield everything, "its parameters may be any object"


def _always() -> tuple[BoundRole, ...]:
    """What Kubernetes gives to every user: its roles system:discovery, system:basic-user, system:public-info-viewer."""
    paths = (
        "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version",
        "/version/",
    )  # fmt: skip
    return (
        BoundRole(label=ALWAYS, rules=(PolicyRule(verbs=("get",), non_resource_urls=paths),)),
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


_ALWAYS_LENT: Final = _always()
