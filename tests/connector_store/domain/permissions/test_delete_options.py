import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.permissions.delete_options import MAX_DELETE_OPTIONS, PROTOBUF, rewrite_delete_options

JSON = "application/json"


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    output = bytearray()
    while value >= 0x80:
        output.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*output, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def envelope(raw: bytes, extra: bytes = b"") -> bytes:
    return b"k8s\x00" + text(1, text(1, b"v1") + text(2, b"DeleteOptions")) + text(2, raw) + extra


FULL = {
    "gracePeriodSeconds": 5,
    "orphanDependents": False,
    "propagationPolicy": "Background",
    "preconditions": {"uid": "u", "resourceVersion": "7"},
}
RAW = number(1, 5) + text(2, text(1, b"u") + text(2, b"7")) + number(3, 0) + text(4, b"Background") + text(5, b"x")


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        pytest.param(JSON, b"", {}, id="nothing"),
        pytest.param("", b"{}", {}, id="no content type"),
        pytest.param("Application/JSON; charset=utf-8", json.dumps(FULL).encode(), FULL, id="JSON"),
        pytest.param(JSON, json.dumps(FULL | {"dryRun": [], "kind": "x", "own": {}}).encode(), FULL, id="other fields"),
        pytest.param(JSON, b'{"preconditions":null,"gracePeriodSeconds":null}', {}, id="null"),
        pytest.param(PROTOBUF, envelope(RAW), FULL, id="protobuf"),
        pytest.param(PROTOBUF, envelope(b""), {}, id="empty protobuf"),
        pytest.param(PROTOBUF, envelope(number(1, -1) + number(9, 1)), {"gracePeriodSeconds": -1}, id="a negative one"),
    ],
)
def test_options_become_a_dry_run(content_type: str, body: bytes, expected: dict[str, object]) -> None:
    assert json.loads(rewrite_delete_options(content_type, body)) == expected | {"dryRun": ["All"]}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b"{"), (JSON, b"[]"), (JSON, b"[" * 60000), (JSON, b'{"gracePeriodSeconds":"5"}'),
        (JSON, b'{"gracePeriodSeconds":true}'), (JSON, b'{"preconditions":[]}'),
        (JSON, b" " * (MAX_DELETE_OPTIONS + 1)),
        ("application/yaml", b"{}"), ("application/cbor", b"\xa0"), (f"{JSON}, {JSON}", b"{}"),
        (PROTOBUF, b"{}"), (PROTOBUF, envelope(b"", text(3, b"gzip"))), (PROTOBUF, b"k8s\x00" + number(2, 1)),
        (PROTOBUF, envelope(text(1, b"5"))), (PROTOBUF, envelope(number(4, 1))), (PROTOBUF, envelope(number(2, 1))),
        (PROTOBUF, envelope(RAW)[:-1]), (PROTOBUF, envelope(b"\x0b\x01")), (PROTOBUF, envelope(b"\x08" + b"\xff" * 11)),
        (PROTOBUF, envelope(b"\x08")),
    ],
)  # fmt: skip
def test_other_bodies_are_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(ParseError):
        rewrite_delete_options(content_type, body)


@given(st.binary(max_size=60))
def test_for_every_body_the_result_is_a_dry_run_or_a_refusal(body: bytes) -> None:
    for content_type, prefix in ((JSON, b""), (PROTOBUF, b"k8s\x00"), (PROTOBUF, b"k8s\x00\x12")):
        try:
            options = json.loads(rewrite_delete_options(content_type, prefix + body))
        except ParseError:
            continue
        assert options["dryRun"] == ["All"]
