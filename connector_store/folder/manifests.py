"""Parser of a manifest file: objects with their lines, and problems with file, line and field.

A `kind: List`, which kubectl writes, becomes its items. If a file is not YAML, the objects before the error are read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from connector_store.client_certificates import validate_secret
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.schema import find_unknown_fields
from connector_store.domain.credential.client_certificate import CERTIFICATE_KEY, PRIVATE_KEY
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessLock,
    AccessPolicy,
    AccessRequest,
    Namespace,
)
from connector_store.domain.objects.manifest import parse_object
from connector_store.domain.objects.models import (
    Connector,
    ConnectorClass,
    InvalidConnector,
    Secret,
    SecretProblem,
    Unusable,
)
from connector_store.domain.permissions.bindings import Binding, ClusterRoleRef
from connector_store.domain.permissions.rbac import ClusterRole
from connector_store.folder.yaml_documents import Document, LocatedList, line_of, parse_documents
from connector_store.store import StoreObject

DEFAULT_NAMESPACE: Final = "default"
"""Namespace of objects without one, as in kubectl."""

UNKNOWN_FIELD: Final = "UnknownField"
"""Reason that a Connector with an unknown field is unusable. An API server with the CRD would refuse it."""

_CONNECTOR_FIELDS: Final = (
    "spec.connectorClassName",
    "spec.address",
    "spec.auth",
    "spec.auth.name",
    "spec.auth.secretRef",
    "spec.auth.secretRef.name",
    "spec.auth.secretRef.kind",
    "spec.auth.secretRef.namespace",
    "spec.caCertSecretRef",
    "spec.caCertSecretRef.name",
    "spec.permissions",
    "spec.permissions.allow",
    "spec.permissions.deny",
    "spec.permissions.mask",
    "spec.permissions.dryRun",
    "spec.permissions.customGroups",
    "spec.impersonate",
)
_BINDING_KINDS: Final = ("RoleBinding", "ClusterRoleBinding")
_NEEDS_CLUSTER: Final = "access requests need a cluster; remove the object, or use the folder's Roles and RoleBindings"
"""Reason for which a folder has no AccessRequest and no AccessApproval."""
_SECRET_KEYS: Final = ("token", "ca.crt", CERTIFICATE_KEY, PRIVATE_KEY)
_LAST_STEP_PATTERN: Final = re.compile(r"(?:^|\.|\[)[^.\[]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Problem to fix. `path` is the field, or empty for the whole object or file. `reason` says what to write instead.

    `fatal` is False for a field that has no effect.
    """

    file: str
    line: int
    subject: str = ""
    path: str = ""
    reason: str
    fatal: bool = True

    def __str__(self) -> str:
        """Return `FILE:LINE: SUBJECT: FIELD: REASON`, the format of compilers."""
        parts = (f"{self.file}:{self.line}" if self.line else self.file, self.subject, self.path, self.reason)
        return ": ".join(each for each in parts if each)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedObject:
    """Object, with the lines that its problems may refer to."""

    object: StoreObject
    file: str
    line: int
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestContent:
    """Content of a file. `is_incomplete` is True if a part of it was not readable."""

    objects: tuple[LocatedObject, ...] = ()
    problems: tuple[Problem, ...] = ()
    is_incomplete: bool = False


def read_manifests(file: str, data: bytes, *, system_namespace: str) -> ManifestContent:
    """Read the documents of one file. `file` is its name in problems."""
    documents, yaml_problem = parse_documents(data)
    objects: list[LocatedObject] = []
    problems: list[Problem] = []
    unread_bindings: list[LocatedObject] = []
    for each in _items(documents):
        try:
            obj = validate_secret(
                parse_object(each.value, system_namespace=system_namespace, default_namespace=DEFAULT_NAMESPACE)
            )
        except ParseError as error:
            problems.append(_problem_at(error, file, each))
            if isinstance(each.value, Mapping) and each.value.get("kind") in _BINDING_KINDS:
                unread_bindings.append(_unread_binding(file, each.line))
            continue
        if isinstance(obj, AccessRequest | AccessApproval):
            problems.append(Problem(file=file, line=each.line, subject=describe(obj), reason=_NEEDS_CLUSTER))
            continue
        unknown_field_errors = find_unknown_fields(each.value) if isinstance(each.value, Mapping) else []
        problems += [_problem_at(error, file, each, describe(obj)) for error in unknown_field_errors]
        accepted = _reject_unknown_field(obj, unknown_field_errors[0]) if unknown_field_errors else obj
        if accepted is None:
            if isinstance(obj, Binding):
                unread_bindings.append(_unread_binding(file, each.line))
            continue
        objects.append(_locate(accepted, file, each))
        problems.extend(_object_problems(obj, file, each))
    is_incomplete = yaml_problem is not None or len(objects) < sum(1 for _ in _items(documents))
    if yaml_problem is not None:
        problems.append(Problem(file=file, line=yaml_problem.line, reason=yaml_problem.reason))
    return ManifestContent(objects=(*objects, *unread_bindings), problems=tuple(problems), is_incomplete=is_incomplete)


def _unread_binding(file: str, line: int) -> LocatedObject:
    """Return a binding that grants nothing, for one that cannot be read: without any binding, a named token is enough.

    Its name is one that no manifest can have, so it replaces no binding.
    """
    binding = Binding(key=ObjectKey("", f"{file}:{line}"), role=ClusterRoleRef(""), subjects=())
    return LocatedObject(object=binding, file=file, line=line)


def _reject_unknown_field(obj: StoreObject, error: ParseError) -> InvalidConnector | AccessLock | None:
    """Return the InvalidConnector for a Connector with an unknown field, or None for another kind.

    A lock with an unknown field may be meant for more than what is left of it, so it becomes one without limits.
    """
    match obj:
        case AccessLock():
            return AccessLock(key=obj.key, uid=obj.uid, problem=str(error))
        case InvalidConnector():
            return obj
        case Connector():
            return InvalidConnector(
                key=obj.key,
                class_name=obj.class_name,
                reason=UNKNOWN_FIELD,
                message=str(error),
                path=error.path,
                uid=obj.uid,
            )
        case _:
            return None


def _problem_at(error: ParseError, file: str, document: Document, subject: str = "") -> Problem:
    return Problem(file=file, line=line_of(document, error.path), subject=subject, path=error.path, reason=error.reason)


def unusable_problem(located: LocatedObject, unusable: Unusable) -> Problem:
    """Return the problem of an unusable Connector, at the field to change."""
    return Problem(
        file=located.file,
        line=_nearest_line(located, unusable.path),
        subject=describe(located.object),
        path=unusable.path,
        reason=unusable.message.removeprefix(f"{unusable.path}: "),
    )


def _nearest_line(located: LocatedObject, path: str) -> int:
    """Return the line of the field, or of the nearest field around it."""
    while path and path not in located.lines:
        path = _LAST_STEP_PATTERN.sub("", path)
    return located.lines.get(path, located.line)


def describe(obj: StoreObject) -> str:
    """Return kind and name, for messages."""
    if isinstance(obj, ConnectorClass | ClusterRole | Namespace):
        return f"{type(obj).__name__} {obj.name}"
    if isinstance(obj, Binding):
        return f"RoleBinding {obj.key}" if obj.key.namespace else f"ClusterRoleBinding {obj.key.name}"
    return f"{'Connector' if isinstance(obj, Connector | InvalidConnector) else type(obj).__name__} {obj.key}"


def secret_problems(secret: Secret) -> tuple[SecretProblem, ...]:
    """Return why parts of a Secret are not usable."""
    return tuple(
        each
        for each in (secret.credential_problem, secret.ca_problem, secret.pinned_address_problem)
        if each is not None
    )


def _items(documents: list[Document]) -> Iterator[Document]:
    for each in documents:
        value = each.value
        items = value.get("items") if isinstance(value, Mapping) and value.get("kind") == "List" else None
        if isinstance(items, LocatedList):
            yield from (Document(item, line) for item, line in zip(items, items.lines, strict=True))
        else:
            yield each


def _locate(obj: StoreObject, file: str, document: Document) -> LocatedObject:
    paths: Iterable[str] = ()
    if isinstance(obj, Connector | InvalidConnector):
        paths = _CONNECTOR_FIELDS
    elif isinstance(obj, Secret):
        paths = map(_key_path, repeat(document), _SECRET_KEYS)
    lines = {path: line_of(document, path) for path in paths}
    return LocatedObject(object=obj, file=file, line=document.line, lines=lines)


def _object_problems(obj: StoreObject, file: str, document: Document) -> Iterator[Problem]:
    """Yield the problems of an object itself. A Connector's problems are found when it is resolved."""
    if isinstance(obj, AccessPolicy):
        for text in obj.problems:
            yield _problem_of_text(obj, text, "so the policy grants nothing", file, document)
        if obj.approval is not None:
            yield Problem(
                file=file,
                line=document.line,
                subject=describe(obj),
                reason="requests need a cluster, so approval has no effect here",
                fatal=False,
            )
    if isinstance(obj, AccessLock) and obj.problem:
        yield _problem_of_text(obj, obj.problem, "so the lock is for all Connectors of its namespace", file, document)
    if isinstance(obj, Secret):
        for problem in secret_problems(obj):
            path = _key_path(document, problem.key) if problem.key else problem.path
            reason = problem.text.removeprefix(f"{path}: ")
            yield Problem(file=file, line=line_of(document, path), subject=describe(obj), path=path, reason=reason)
    if isinstance(obj, ConnectorClass):
        for path in obj.unsupported_fields:
            line = line_of(document, path.partition(":")[0])
            reason = f"{path} is accepted and not run"
            yield Problem(file=file, line=line, subject=describe(obj), reason=reason, fatal=False)


def _problem_of_text(obj: StoreObject, text: str, effect: str, file: str, document: Document) -> Problem:
    line = line_of(document, text.partition(":")[0])
    return Problem(file=file, line=line, subject=describe(obj), reason=f"{text}, {effect}")


def _key_path(document: Document, key: str) -> str:
    """Return the path of a Secret's key. As in an API server, stringData has precedence."""
    string_data = Fields(document.value, "").value("stringData")
    return f"{'stringData' if isinstance(string_data, Mapping) and key in string_data else 'data'}[{key}]"
