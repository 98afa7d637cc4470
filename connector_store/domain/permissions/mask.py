"""Masks of Secrets in responses: pure functions from a parsed JSON value to the masked one.

    mask_secret({"kind": "Secret", "data": {"password": "aHVudGVyMg=="}})     {…, "data": {"password": "bWFza2Vk"}}

Each function copies only the fields that it knows, so a field that it does not know cannot give a value away. It raises
ValueError if the value does not have the expected form. The keys of `data` are not masked, and neither are labels.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

MASK: Final = "masked"
"""Text in place of each value. It is a constant, because a digest would let callers test guesses."""
DATA_MASK: Final = "bWFza2Vk"
"""MASK in base64, as the values of `data` are, so that typed clients can decode it."""
MASKED_ANNOTATION: Final = "connectors.alauda.io/masked"
"""Annotation of masked objects. Applying such an object to a cluster would destroy the Secret there."""

_VISIBLE_ANNOTATIONS: Final = frozenset(
    {
        "k8s.io/initial-events-end", "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid",
        "meta.helm.sh/release-name", "meta.helm.sh/release-namespace",
    }
)  # fmt: skip
"""Annotations whose values are names or flags. Informers need the first one."""
_METADATA: Final = frozenset(
    {
        "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "ownerReferences", "finalizers", "selfLink",
    }
)  # fmt: skip
"""Fields of ObjectMeta without `annotations`, which are masked, and `managedFields`, which have copies of values."""
_LIST_METADATA: Final = frozenset({"resourceVersion", "continue", "remainingItemCount", "selfLink"})
_STATUS: Final = frozenset({"kind", "apiVersion", "metadata", "status", "message", "reason", "details", "code"})
_COLUMN: Final = frozenset({"name", "type", "format", "description", "priority"})
_COLUMNS: Final = ["Name", "Type", "Data", "Age"]
"""Columns of a table of Secrets. Another column could contain a value."""
_AGE = re.compile(r"[0-9a-z]{1,32}|<(?:unknown|invalid)>")
_EVENT_TYPES: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})

_ENTRY_MASKS: Final = {"data": DATA_MASK, "stringData": MASK}
"""Fields of a Secret with values, and what replaces these."""
ENTRY_FIELDS: Final = frozenset(_ENTRY_MASKS) | {"labels"}
"""Fields of a Secret that may have any number of entries, each with a string. Annotations have 256 KiB at most."""
_SECRET: Final = frozenset({"kind", "apiVersion", "immutable", "type"})
_PARTIAL: Final = frozenset({"kind", "apiVersion"})


class Form(Enum):
    """Form in which the proxy asks for Secrets. The value is its parameter of Accept, `as`."""

    OBJECT = ""
    METADATA = "PartialObjectMetadata"
    TABLE = "Table"


Masker = Callable[[Any], dict[str, Any]]


def choose_form(accept: Sequence[str]) -> Form:
    """Return the form of the first media range in Accept that names one, in any encoding. The answer is JSON.

    >>> choose_form(["application/json;as=Table;v=v1;g=meta.k8s.io, application/json"])
    <Form.TABLE: 'Table'>
    """
    for media_range in ",".join(accept).split(","):
        parameters = dict(_split_parameter(parameter) for parameter in media_range.split(";")[1:])
        if parameters.get("g") == "meta.k8s.io" and parameters.get("v") == "v1":
            kind = parameters.get("as", "").removesuffix("List")
            if kind in (Form.METADATA.value, Form.TABLE.value):
                return Form(kind)
    return Form.OBJECT


def _split_parameter(parameter: str) -> tuple[str, str]:
    name, _, value = parameter.partition("=")
    return name.strip().lower(), value.strip().strip('"')


def accept_header(form: Form, *, is_list: bool) -> bytes:
    """Return the value of Accept that asks for `form` in JSON."""
    if form is Form.OBJECT:
        return b"application/json"
    suffix = "List" if form is Form.METADATA and is_list else ""
    return f"application/json;as={form.value}{suffix};v=v1;g=meta.k8s.io".encode("ascii")


def kind_of(form: Form, *, is_list: bool) -> str:
    """Return the kind of a response in `form`."""
    kind = "Secret" if form is Form.OBJECT else form.value
    return f"{kind}List" if is_list and form is not Form.TABLE else kind


def masker_of(form: Form) -> Masker:
    """Return the function for one object: a response to get, and the object of a watch event."""
    return {Form.OBJECT: mask_secret, Form.METADATA: mask_partial_metadata, Form.TABLE: mask_table}[form]


def mask_secret(value: Any) -> dict[str, Any]:
    """Mask a Secret. An item of a list has no kind."""
    secret = _expect_object(value, kind="Secret")
    masked = _select_fields(secret, _SECRET)
    masked["metadata"] = _mask_metadata(secret.get("metadata"))
    for field in _ENTRY_MASKS:
        if isinstance(entries := secret.get(field), dict):
            masked[field] = mask_entries(field, entries)
        elif entries is not None:
            raise ValueError(f"{field} of a Secret is not an object")
    return masked


def mask_entries(field: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Mask entries of one of `ENTRY_FIELDS`. Labels are not masked."""
    mask = _ENTRY_MASKS.get(field)
    return entries if mask is None else dict.fromkeys(entries, mask)


def mask_partial_metadata(value: Any) -> dict[str, Any]:
    """Mask a PartialObjectMetadata (meta/v1)."""
    partial = _expect_object(value, kind="PartialObjectMetadata")
    metadata = _mask_metadata(partial.get("metadata"))
    return _select_fields(partial, _PARTIAL) | {"metadata": metadata}


def mask_table(value: Any) -> dict[str, Any]:
    """Mask a Table (meta/v1) of Secrets."""
    table = _expect_object(value, kind="Table")
    rows = table.get("rows")
    if not isinstance(rows, list):
        raise ValueError("a Table without rows")
    return _select_fields(table, _PARTIAL) | {
        "metadata": mask_list_metadata(table.get("metadata")),
        "columnDefinitions": check_columns(table.get("columnDefinitions")),
        "rows": [mask_row(row) for row in rows],
    }


def mask_row(value: Any) -> dict[str, Any]:
    """Mask a row of a Table. Its cells must be those of a Secret: name, type, number of keys, and age."""
    row = _expect_object(value)
    cells, shown = row.get("cells"), row.get("object")
    if not isinstance(cells, list) or [type(cell) for cell in cells] != [str, str, int, str]:
        raise ValueError("a row of a Table that is not that of a Secret")
    if _AGE.fullmatch(cells[3]) is None:
        raise ValueError("a cell of a Table that is not that of a Secret")
    if shown is None:
        return {"cells": cells, "object": None}
    masked = mask_secret(shown) if _expect_object(shown).get("kind") == "Secret" else mask_partial_metadata(shown)
    if masked["metadata"].get("name", "") != cells[0]:
        raise ValueError("a row of a Table whose name is not that of its object")
    return {"cells": cells, "object": masked}


def check_columns(value: Any) -> list[dict[str, Any]] | None:
    """Return the columns of a Table of Secrets. They are None in each event of a watch but the first one."""
    if value is None:
        return None
    columns = [_select_fields(_expect_object(column), _COLUMN) for column in value] if isinstance(value, list) else []
    if columns and [column.get("name") for column in columns] != _COLUMNS:
        raise ValueError("a Table with other columns than Secrets have")
    return columns


def mask_list_metadata(value: Any) -> dict[str, Any]:
    """Return the known fields of ListMeta."""
    return _select_fields(_expect_object(value), _LIST_METADATA)


def copy_status(value: Any) -> dict[str, Any]:
    """Return the known fields of a Status, which is the body of an error."""
    status = _expect_object(value)
    if status.get("kind") != "Status":
        raise ValueError("not a Status")
    return _select_fields(status, _STATUS)


def mask_event(value: Any, mask_object: Masker) -> dict[str, Any]:
    """Mask an event of a watch. `mask_object` masks its object."""
    event = _expect_object(value)
    kind, item = event.get("type"), event.get("object")
    if kind == "ERROR":
        return {"type": kind, "object": copy_status(item)}
    if kind not in _EVENT_TYPES:
        raise ValueError("an event of an unknown type")
    return {"type": kind, "object": mask_object(item)}


def _mask_metadata(value: Any) -> dict[str, Any]:
    metadata = _expect_object(value)
    masked = _select_fields(metadata, _METADATA)
    annotations = metadata.get("annotations") or {}
    masked["annotations"] = masked_annotations = {
        name: text if name in _VISIBLE_ANNOTATIONS else MASK for name, text in _expect_object(annotations).items()
    }
    masked_annotations[MASKED_ANNOTATION] = "true"
    return masked


def _select_fields(value: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: field for name, field in value.items() if name in names}


def _expect_object(value: Any, *, kind: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    if kind and value.get("kind", kind) != kind:
        raise ValueError(f"a kind other than {kind}")
    return value
