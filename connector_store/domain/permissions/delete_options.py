"""DeleteOptions (meta/v1) of a deletion that becomes a dry run.

The API server ignores the query of a deletion that has a body, so the body must say `dryRun`. The proxy reads it and
writes its own, in JSON. It keeps the options that decide what the target answers.

>>> rewrite_delete_options("application/json", b'{"gracePeriodSeconds": 0, "dryRun": []}')
b'{"gracePeriodSeconds":0,"dryRun":["All"]}'
"""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from connector_store.domain.base.errors import ParseError

MAX_DELETE_OPTIONS: Final = 64 * 1024
"""Maximum bytes of the body of a deletion. DeleteOptions have less than one."""
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"

_OPTIONS: Final = {"gracePeriodSeconds": int, "orphanDependents": bool, "propagationPolicy": str}
_PRECONDITIONS: Final = {"uid": str, "resourceVersion": str}
_MAGIC: Final = b"k8s\x00"
"""First bytes of a protobuf object (k8s.io/apimachinery, pkg/runtime/serializer/protobuf)."""
# Numbers of fields in k8s.io/apimachinery, pkg/runtime/generated.proto and pkg/apis/meta/v1/generated.proto.
_RAW, _CONTENT_ENCODING = 2, 3
_VARINT, _LENGTH = 0, 2


def rewrite_delete_options(content_type: str, body: bytes) -> bytes:
    """Return the DeleteOptions of `body` as a dry run, in JSON. Raises ParseError if the proxy cannot read them."""
    if len(body) > MAX_DELETE_OPTIONS:
        raise ParseError("", f"has more than {MAX_DELETE_OPTIONS} bytes")
    media_type = content_type.partition(";")[0].strip().lower()
    if not body:
        options: dict[str, object] = {}
    elif media_type in ("", "application/json"):
        options = _parse_json(body)
    elif media_type == PROTOBUF:
        options = _parse_protobuf(body)
    else:
        raise ParseError("", "is neither JSON nor protobuf")
    return json.dumps(options | {"dryRun": ["All"]}, separators=(",", ":")).encode("ascii")


def _parse_json(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ParseError("", "is not JSON") from None
    if not isinstance(value, dict):
        raise ParseError("", "is not an object")
    options = _select(value, _OPTIONS)
    preconditions = value.get("preconditions")
    if preconditions is not None:
        if not isinstance(preconditions, dict):
            raise ParseError("preconditions", "is not an object")
        options["preconditions"] = _select(preconditions, _PRECONDITIONS)
    return options


def _select(value: dict[str, object], types: Mapping[str, type]) -> dict[str, object]:
    fields = {name: value[name] for name in types if value.get(name) is not None}
    for name, field in fields.items():
        if type(field) is not types[name]:
            raise ParseError(name, "has another type")
    return fields


def _parse_protobuf(body: bytes) -> dict[str, object]:
    if not body.startswith(_MAGIC):
        raise ParseError("", "is not an object of Kubernetes in protobuf")
    envelope = dict(_read_fields(body[len(_MAGIC) :]))
    raw = envelope.get(_RAW, b"")
    if envelope.get(_CONTENT_ENCODING) or not isinstance(raw, bytes):
        raise ParseError("", "is encoded")
    fields = dict(_read_fields(raw))
    options: dict[str, object] = {}
    for number, name in ((1, "gracePeriodSeconds"), (3, "orphanDependents"), (4, "propagationPolicy")):
        if number in fields:
            options[name] = _convert(fields[number], _OPTIONS[name])
    if 2 in fields:
        nested = dict(_read_fields(_expect_bytes(fields[2])))
        options["preconditions"] = {
            name: _convert(nested[number], str) for number, name in enumerate(_PRECONDITIONS, 1) if number in nested
        }
    return options


def _convert(value: int | bytes, kind: type) -> object:
    if kind is str:
        return _expect_bytes(value).decode("utf-8", "replace")
    if isinstance(value, bytes):
        raise ParseError("", "has a field of another type")
    # A negative int64 is a varint of ten bytes, in two's complement.
    return bool(value) if kind is bool else value - (1 << 64) if value >> 63 else value


def _expect_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ParseError("", "has a field of another type")
    return value


def _read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if tag & 7 == _VARINT:
            yield tag >> 3, value
        elif tag & 7 == _LENGTH and position + value <= len(data):
            yield tag >> 3, data[position : position + value]
            position += value
        else:
            raise ParseError("", "is not valid protobuf")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ParseError("", "is not valid protobuf")
