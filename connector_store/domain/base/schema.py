"""Fields that an object can have. A folder refuses an `unknown field`, as an API server does.

Without this check, a mistyped optional field would be ignored without an error.

>>> [str(error) for error in find_unknown_fields({"kind": "Connector", "spec": {"adress": "https://x"}})]
['spec.adress: unknown field; did you mean address?']
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from connector_store.domain.base.errors import ParseError

Shape = Mapping[str, "Shape | None"]
"""Maps each field to the shape of its object or list items. None allows any value."""

_PAIR: Final[Shape] = {"name": None, "value": None}
_REFERENCE: Final[Shape] = dict.fromkeys(
    ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
)
_ROLES: Final[Shape] = {"clusterRole": None, "namespaces": None}
_RULE: Final[Shape] = dict.fromkeys(("apiGroups", "nonResourceURLs", "resourceNames", "resources", "verbs"))
_METADATA: Final[Shape] = dict.fromkeys(
    (
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    )
)
"""ObjectMeta of apimachinery meta/v1."""
_OBJECT: Final[Shape] = {"apiVersion": None, "kind": None, "metadata": _METADATA}
_SELECTOR: Final[Shape] = {
    "names": None,
    "matchLabels": None,
    "matchExpressions": dict.fromkeys(("key", "operator", "values")),
}
_SUBJECT: Final[Shape] = dict.fromkeys(("apiGroup", "kind", "name", "namespace"))
_BINDING: Final[Shape] = {
    **_OBJECT,
    "roleRef": dict.fromkeys(("apiGroup", "kind", "name")),
    "subjects": _SUBJECT,
}
_CLAIM: Final[Shape] = dict.fromkeys(("claim", "prefix", "expression"))

CONNECTOR_SPEC: Final[Shape] = {
    "connectorClassName": None,
    "address": None,
    "addressExtensions": _PAIR,
    "auth": {"name": None, "params": _PAIR, "secretRef": _REFERENCE},
    "caCertSecretRef": {"name": None},
    "params": _PAIR,
    "permissions": {
        "allow": _ROLES,
        "deny": _ROLES,
        "onRequest": {"allow": _ROLES},
        "mask": {"resources": None},
        "dryRun": None,
        "customGroups": None,
    },
    "impersonate": {"userPrefix": None, "groupPrefix": None},
    "limits": dict.fromkeys(
        ("requestsPerSecond", "burst", "writesPerMinute", "deletesPerHour", "bulkDeletesPerHour", "sessions")
    ),
}
"""Fields of `spec`, the same as in the CustomResourceDefinition of deploy/crds."""

_SHAPES: Final[Mapping[str, Shape]] = {
    "Connector": {**_OBJECT, "spec": CONNECTOR_SPEC, "status": None},
    # The definition preserves unknown fields of a class. The parser of classes reports what it does not support.
    "ConnectorClass": {**_OBJECT, "spec": None, "status": None},
    "Secret": {**_OBJECT, "type": None, "data": None, "stringData": None, "immutable": None},
    "ClusterRole": {**_OBJECT, "rules": _RULE, "aggregationRule": None},
    "Role": {**_OBJECT, "rules": _RULE},
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "AccessPolicy": {
        **_OBJECT,
        "spec": {
            "connector": _SELECTOR,
            "defaultPermission": {
                "roleTemplate": None,
                "bindingTemplate": {"serviceAccounts": {"names": None, "namespaceSelector": _SELECTOR}},
            },
            "checkGrantedPermission": None,
            "approval": dict.fromkeys(("required", "maxDuration", "requireReason", "serviceAccountsMayApprove")),
        },
        "status": None,
    },
    "AccessLock": {
        **_OBJECT,
        "spec": {
            "subjects": _SUBJECT,
            "connector": {**_SELECTOR, "secretNames": None, "addresses": None},
            "until": None,
            "reason": None,
        },
        "status": None,
    },
    "AuthenticationConfiguration": {
        "apiVersion": None,
        "kind": None,
        "anonymous": None,
        "jwt": {
            "issuer": dict.fromkeys(
                (
                    "url",
                    "discoveryURL",
                    "certificateAuthority",
                    "audiences",
                    "audienceMatchPolicy",
                    "egressSelectorType",
                )
            ),
            "claimMappings": {"username": _CLAIM, "groups": _CLAIM, "uid": _CLAIM, "extra": None},
            "claimValidationRules": dict.fromkeys(("claim", "requiredValue", "expression", "message")),
            "userValidationRules": None,
        },
    },
}

MAX_SUGGESTION_INPUT: Final = 63
"""Maximum number of characters of an unknown name that are compared with the known ones."""
MAX_UNKNOWN_FIELDS: Final = 20
"""Maximum number of unknown fields that are reported for one object."""


def find_unknown_fields(raw: Mapping[str, object]) -> list[ParseError]:
    """Return an error for each unknown field of an object, in order, with the most similar known field.

    Objects of other kinds are not checked.
    """
    shape = _SHAPES.get(str(raw.get("kind")))
    errors = _find_unknown(raw, shape, "") if shape is not None else iter(())
    return [error for error, _ in zip(errors, range(MAX_UNKNOWN_FIELDS), strict=False)]


def suggest_name(name: str, candidates: Iterable[str], *, prefix: str = "") -> str:
    """Return `; did you mean X?` for the candidate most similar to `name`, or an empty string.

    The comparison ignores `prefix`, which all candidates have in common.

    >>> suggest_name("Conector", ["Secret", "Connector"])
    '; did you mean Connector?'
    """
    candidates_by_lower_case = {candidate.removeprefix(prefix).lower(): candidate for candidate in candidates}
    compared = name.removeprefix(prefix)[:MAX_SUGGESTION_INPUT].lower()
    matches = get_close_matches(compared, candidates_by_lower_case, n=1)
    return f"; did you mean {candidates_by_lower_case[matches[0]]}?" if matches else ""


def _find_unknown(value: object, shape: Shape, path: str) -> Iterator[ParseError]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_unknown(item, shape, f"{path}[{index}]")
    if not isinstance(value, Mapping):
        return
    for name, field_value in value.items():
        field_path = f"{path}.{name}" if path else str(name)
        if name not in shape:
            yield ParseError(field_path[:1024], "unknown field" + suggest_name(str(name), shape))
        elif (field_shape := shape[name]) is not None:
            yield from _find_unknown(field_value, field_shape, field_path)
