"""Roles and bindings of a folder, which authorize callers to use Connectors without an API server.

Role, ClusterRole, RoleBinding and ClusterRoleBinding (rbac.authorization.k8s.io/v1) have the same meaning as in a
cluster. `rbac` evaluates the request that a SubjectAccessReview would contain.

>>> role = ClusterRole(name="user", rules=(PolicyRule(verbs=("use",), api_groups=(API_GROUP,),
...     resources=("connectors/proxy",)),))
>>> binding = Binding(key=ObjectKey("team-a", "b"), role=ClusterRoleRef("user"),
...     subjects=(Subject(kind="Group", name="ci:deployers"),))
>>> bindings = Bindings(cluster_roles=[role], bindings=[binding])
>>> rule = AccessRule("use", "connectors", "proxy")
>>> bindings.allows(Identity(user="ci:x", groups=("ci:deployers",)), rule, ObjectKey("team-a", "k8s"))
True
>>> bindings.allows(Identity(user="ci:x", groups=("ci:deployers",)), rule, ObjectKey("team-b", "k8s"))
False
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import API_GROUP, ObjectKey, is_dns_label
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import Identity
from connector_store.domain.config.settings import AccessRule
from connector_store.domain.permissions.rbac import (
    RBAC_GROUP,
    BoundRole,
    ClusterRole,
    PolicyRule,
    RuleSet,
    parse_role_name,
    parse_rules,
)

MAX_SUBJECTS: Final = 10_000
"""Maximum number of subjects in one binding."""
AUTHENTICATED_GROUP: Final = "system:authenticated"
"""Group of every caller whose token was verified, as in the API server."""
_SERVICE_ACCOUNT_USER: Final = "system:serviceaccount:{}:{}"

SubjectKind = Literal["User", "Group", "ServiceAccount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A Role. Its rules apply in its own namespace."""

    key: ObjectKey
    rules: tuple[PolicyRule, ...]


@dataclass(frozen=True, slots=True)
class ClusterRoleRef:
    """A `roleRef` to a ClusterRole."""

    name: str


@dataclass(frozen=True, slots=True)
class RoleRef:
    """A `roleRef` to a Role in the binding's namespace."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Subject of a binding. Only a ServiceAccount has a `namespace`."""

    kind: SubjectKind
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        """Return `KIND NAME`, or `ServiceAccount NAMESPACE/NAME`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def matches(self, identity: Identity) -> bool:
        if self.kind == "User":
            return self.name == identity.user
        if self.kind == "Group":
            return self.name in identity.groups or self.name == AUTHENTICATED_GROUP
        return identity.user == _SERVICE_ACCOUNT_USER.format(self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A RoleBinding, or a ClusterRoleBinding if the namespace of its key is empty."""

    key: ObjectKey
    role: ClusterRoleRef | RoleRef
    subjects: tuple[Subject, ...]


class Bindings:
    """All bindings and roles of a folder. A binding to a role that does not exist has no effect, as in a cluster."""

    def __init__(
        self, *, cluster_roles: Iterable[ClusterRole] = (), roles: Iterable[Role] = (), bindings: Iterable[Binding] = ()
    ) -> None:
        self._cluster_roles = {role.name: role.rules for role in cluster_roles}
        self._roles = {role.key: role.rules for role in roles}
        self._bindings = tuple(bindings)

    @property
    def is_empty(self) -> bool:
        """True without any binding."""
        return not self._bindings

    def allows(self, identity: Identity, rule: AccessRule, key: ObjectKey) -> bool:
        """Return True if the caller may do `rule` to Connector `key`. The Connector need not exist."""
        roles = [
            self._bound_role(binding)
            for binding in self._bindings_of(key)
            if any(subject.matches(identity) for subject in binding.subjects)
        ]
        return RuleSet(roles).find_role(_request_info(rule, key)) is not None

    def subjects(self, rule: AccessRule, key: ObjectKey) -> list[Subject]:
        """Return the subjects that may do `rule` to Connector `key`, each once, in the order of the bindings."""
        info = _request_info(rule, key)
        granting = (
            binding
            for binding in self._bindings_of(key)
            if RuleSet([self._bound_role(binding)]).find_role(info) is not None
        )
        return list(dict.fromkeys(subject for binding in granting for subject in binding.subjects))

    def _bindings_of(self, key: ObjectKey) -> Iterator[Binding]:
        return (binding for binding in self._bindings if binding.key.namespace in ("", key.namespace))

    def _bound_role(self, binding: Binding) -> BoundRole:
        return BoundRole(label=binding.key.name, rules=self._rules(binding))

    def _rules(self, binding: Binding) -> tuple[PolicyRule, ...]:
        if isinstance(binding.role, ClusterRoleRef):
            return self._cluster_roles.get(binding.role.name, ())
        return self._roles.get(ObjectKey(binding.key.namespace, binding.role.name), ())


def _request_info(rule: AccessRule, key: ObjectKey) -> RequestInfo:
    return RequestInfo(
        verb=rule.verb,
        group=API_GROUP,
        resource=rule.resource,
        subresource=rule.subresource or "",
        namespace=key.namespace,
        name=key.name,
        path="",
    )


def parse_role(raw: Mapping[str, object], *, default_namespace: str) -> Role:
    """Parse a Role."""
    fields = Fields(raw, "")
    metadata = fields.child("metadata")
    return Role(
        key=ObjectKey(_parse_namespace(metadata, default_namespace), parse_role_name(metadata, "name")),
        rules=parse_rules(fields),
    )


def parse_role_binding(raw: Mapping[str, object], *, default_namespace: str) -> Binding:
    """Parse a RoleBinding."""
    fields = Fields(raw, "")
    metadata = fields.child("metadata")
    namespace = _parse_namespace(metadata, default_namespace)
    return _parse_binding(fields, ObjectKey(namespace, parse_role_name(metadata, "name")))


def parse_cluster_role_binding(raw: Mapping[str, object]) -> Binding:
    """Parse a ClusterRoleBinding."""
    fields = Fields(raw, "")
    return _parse_binding(fields, ObjectKey("", parse_role_name(fields.child("metadata"), "name")))


def _parse_binding(fields: Fields, key: ObjectKey) -> Binding:
    subjects = fields.items("subjects")
    if len(subjects) > MAX_SUBJECTS:
        raise ParseError("subjects", f"has more than {MAX_SUBJECTS} entries")
    return Binding(
        key=key,
        role=_parse_role_ref(fields.child("roleRef"), key.namespace),
        subjects=tuple(_parse_subject(subject) for subject in subjects),
    )


def _parse_role_ref(ref: Fields, namespace: str) -> ClusterRoleRef | RoleRef:
    if ref.text("apiGroup") not in (None, RBAC_GROUP):
        raise ParseError(ref.path_of("apiGroup"), f"is not {RBAC_GROUP}")
    name = parse_role_name(ref, "name")
    match ref.text("kind"):
        case "ClusterRole":
            return ClusterRoleRef(name)
        case "Role" if namespace:
            return RoleRef(name)
        case _:
            raise ParseError(
                ref.path_of("kind"), "is neither Role nor ClusterRole" if namespace else "is not ClusterRole"
            )


def _parse_subject(fields: Fields) -> Subject:
    kind, name = fields.text("kind"), fields.text("name")
    if name is None:
        raise ParseError(fields.path_of("name"), "is empty")
    match kind:
        case "User" | "Group":
            if fields.text("apiGroup") not in (None, RBAC_GROUP):
                raise ParseError(fields.path_of("apiGroup"), f"is not {RBAC_GROUP}")
            return Subject(kind=kind, name=name)
        case "ServiceAccount":
            namespace = fields.text("namespace")
            if namespace is None:
                raise ParseError(fields.path_of("namespace"), "is empty; a ServiceAccount has one")
            return Subject(kind="ServiceAccount", name=name, namespace=namespace)
        case _:
            raise ParseError(fields.path_of("kind"), "is none of User, Group, ServiceAccount")


def _parse_namespace(metadata: Fields, default: str) -> str:
    namespace = metadata.text("namespace") or default
    if not is_dns_label(namespace):
        raise ParseError(metadata.path_of("namespace"), "is not the name of a namespace")
    return namespace
