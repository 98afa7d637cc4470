"""The content of one manifest file -> objects, where they stand, and problems with file, line and field.

`kind: List` is unfolded, as kubectl writes it; a file that is no YAML gives what stands before the fault.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from connector_store.client_certificates import examined
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.schema import find_unknown_fields
from connector_store.domain.credential.client_certificate import CERTIFICATE_KEY, PRIVATE_KEY
from connector_store.domain.objects.manifest import parse_object
from connector_store.domain.objects.models import Connector, ConnectorClass, InvalidConnector, Secret, Unusable
from connector_store.domain.permissions.bindings import Binding, Role
from connector_store.domain.permissions.rbac import ClusterRole
from connector_store.folder.yaml_documents import Document, LocatedList, line_of, parse_documents

DEFAULT_NAMESPACE: Final = "default"
"""Of objects that name none, as for kubectl."""

UNKNOWN_FIELD: Final = "UnknownField"
"""Why a Connector is not used that has a field which there is not: a definition's API server would not take it."""

Object = Connector | InvalidConnector | Secret | ConnectorClass | ClusterRole | Role | Binding

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
    "spec.impersonate",
)
_SECRET_KEYS: Final = ("token", "ca.crt", CERTIFICATE_KEY, PRIVATE_KEY)
_FIELD_OF_REASON: Final = {
    "ConnectorClassNotFound": "spec.connectorClassName",
    "AddressInvalid": "spec.address",
    "InvalidPEM": "spec.caCertSecretRef",
    "RoleNotFound": "spec.permissions",
    "PermissionsInvalid": "spec.permissions",
}
_LAST_STEP: Final = re.compile(r"(?:^|\.|\[)[^.\[]*$")
_KEY: Final = re.compile(r'key "(.*?)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something to mend. `path` is the field, empty for the whole object or file; `reason` says what to write instead.

    `fatal` is False for what is merely not run.
    """

    file: str
    line: int
    subject: str = ""
    path: str = ""
    reason: str
    fatal: bool = True

    def __str__(self) -> str:
        """`FILE:LINE: SUBJECT: FIELD: REASON`, as compilers write it."""
        parts = (f"{self.file}:{self.line}" if self.line else self.file, self.subject, self.path, self.reason)
        return ": ".join(each for each in parts if each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An object, and the lines of it that its problems may point to."""

    object: Object
    file: str
    line: int
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file holds. `broken` if not all of it could be read."""

    objects: tuple[Placed, ...] = ()
    problems: tuple[Problem, ...] = ()
    broken: bool = False


def read_manifests(file: str, data: bytes, *, system_namespace: str) -> Content:
    """Read the documents of one file; `file` is its name in problems."""
    documents, fault = parse_documents(data)
    objects: list[Placed] = []
    problems: list[Problem] = []
    for each in _items(documents):
        try:
            found = examined(
                parse_object(each.value, system_namespace=system_namespace, default_namespace=DEFAULT_NAMESPACE)
            )
        except ParseError as error:
            problems.append(_at(error, file, each))
            continue
        unknown = find_unknown_fields(each.value) if isinstance(each.value, Mapping) else []
        problems += [_at(error, file, each, describe(found)) for error in unknown]
        taken = _refused(found, unknown[0]) if unknown else found
        if taken is None:
            continue
        objects.append(_placed(taken, file, each))
        problems.extend(_own_problems(found, file, each))
    broken = fault is not None or len(objects) < sum(1 for _ in _items(documents))
    if fault is not None:
        problems.append(Problem(file=file, line=fault.line, reason=fault.reason))
    return Content(objects=tuple(objects), problems=tuple(problems), broken=broken)


def _refused(found: Object, unknown: ParseError) -> InvalidConnector | None:
    """What is left of an object with a field that an API server would not take: of a Connector, why it is not used."""
    match found:
        case InvalidConnector():
            return found
        case Connector():
            return InvalidConnector(
                key=found.key, class_name=found.class_name, reason=UNKNOWN_FIELD, message=str(unknown), uid=found.uid
            )
        case _:
            return None


def _at(error: ParseError, file: str, document: Document, subject: str = "") -> Problem:
    return Problem(file=file, line=line_of(document, error.path), subject=subject, path=error.path, reason=error.reason)


def unusable_problem(placed: Placed, found: Unusable) -> Problem:
    """Why a Connector cannot be used, at the field that has to change."""
    path, colon, reason = found.message.partition(": ")
    if not colon or not path.startswith("spec"):
        path, reason = _FIELD_OF_REASON.get(found.reason, "spec.auth.secretRef.name"), found.message
    return Problem(
        file=placed.file,
        line=_line(placed, path),
        subject=describe(placed.object),
        path=path,
        reason=reason,
    )


def _line(placed: Placed, path: str) -> int:
    """Of the field, or of the nearest one around it."""
    while path and path not in placed.lines:
        path = _LAST_STEP.sub("", path)
    return placed.lines.get(path, placed.line)


def describe(found: Object) -> str:
    """Kind and name, for people."""
    if isinstance(found, ConnectorClass | ClusterRole):
        return f"{type(found).__name__} {found.name}"
    if isinstance(found, Binding):
        return f"RoleBinding {found.key}" if found.key.namespace else f"ClusterRoleBinding {found.key.name}"
    return f"{'Connector' if isinstance(found, Connector | InvalidConnector) else type(found).__name__} {found.key}"


def secret_problems(secret: Secret) -> tuple[str, ...]:
    """Why parts of a Secret cannot be used."""
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


def _placed(found: Object, file: str, document: Document) -> Placed:
    paths: Iterable[str] = ()
    if isinstance(found, Connector | InvalidConnector):
        paths = _CONNECTOR_FIELDS
    elif isinstance(found, Secret):
        paths = map(_key_path, repeat(document), _SECRET_KEYS)
    lines = {path: line_of(document, path) for path in paths}
    return Placed(object=found, file=file, line=document.line, lines=lines)


def _own_problems(found: Object, file: str, document: Document) -> Iterator[Problem]:
    """What is wrong with a Secret or a class, whoever uses it; a Connector's are found when it is joined."""
    if isinstance(found, Secret):
        for reason in secret_problems(found):
            path, rest = _field_and_reason(reason, document)
            yield Problem(file=file, line=line_of(document, path), subject=describe(found), path=path, reason=rest)
    if isinstance(found, ConnectorClass):
        for path in found.unsupported_fields:
            line = line_of(document, path.partition(":")[0])
            reason = f"{path} is accepted and not run"
            yield Problem(file=file, line=line, subject=describe(found), reason=reason, fatal=False)


def _field_and_reason(text: str, document: Document) -> tuple[str, str]:
    """`FIELD: REASON` or `key "KEY" REASON` -> the field and the rest."""
    path, colon, rest = text.partition(": ")
    if colon and " " not in path:
        return path, rest
    key = _KEY.match(text)
    if key is None:
        return "", text
    return _key_path(document, key[1]), text


def _key_path(document: Document, key: str) -> str:
    """Where the value of a Secret's key stands: stringData wins, as for an API server."""
    plain = Fields(document.value, "").value("stringData")
    return f"{'stringData' if isinstance(plain, Mapping) and key in plain else 'data'}[{key}]"
