"""Bodies that are rewritten: any split of the bytes gives the same, and nothing passes unread."""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.permissions import json_buffer
from connector_store.domain.permissions.json_buffer import MAX_OBJECT
from connector_store.domain.permissions.mask import Form, mask_secret
from connector_store.domain.permissions.masked_body import (
    MAX_STATUS,
    Body,
    ErrorBody,
    ListBody,
    ObjectBody,
    WatchBody,
    masked_body,
)

CANARY = "c4n4ry"
CHUNK = 131072


def secret(name: str = "a", value: str = CANARY) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {"copy": f"{value} ü€😀 " + '\\ "}'}}, "data": {"p": value}}


def secret_list(*items: object, **fields: object) -> dict[str, Any]:
    metadata = {"resourceVersion": "12", "remainingItemCount": 3}
    return {"kind": "SecretList", "apiVersion": "v1", "metadata": metadata, "items": [*items]} | fields


def dump(value: object, **options: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **options).encode()


def receive(body: Body, data: bytes, *sizes: int) -> bytes:
    """Pass data in pieces of these sizes, and the rest as one piece."""
    output, start = b"", 0
    for size in sizes:
        output += body.receive(data[start : start + size])
        start += size
    return output + body.receive(data[start:]) + body.finish()


SPLITS = st.lists(st.integers(1, 40), max_size=60)


@given(sizes=SPLITS, indent=st.sampled_from([None, 2]), count=st.integers(0, 4))
def test_any_split_of_a_list_gives_the_masked_list(sizes: list[int], indent: int | None, count: int) -> None:
    items = [secret(f"s{number}") for number in range(count)]
    output = receive(ListBody(Form.OBJECT), dump(secret_list(*items), indent=indent), *sizes)
    assert json.loads(output) == secret_list(*(mask_secret(item) for item in items))


@given(sizes=SPLITS)
def test_any_split_of_a_watch_gives_the_masked_events(sizes: list[int]) -> None:
    events = [{"type": "ADDED", "object": secret()}, {"type": "DELETED", "object": secret("b")}]
    output = receive(WatchBody(mask_secret), b"\n".join(map(dump, events)) + b"\n", *sizes)
    assert [json.loads(line)["object"]["data"] for line in output.splitlines()] == [{"p": "bWFza2Vk"}] * 2
    assert CANARY.encode() not in output


def test_an_event_is_passed_when_it_is_complete() -> None:
    body = WatchBody(mask_secret)
    event = dump({"type": "ADDED", "object": secret()})
    assert body.receive(event[:-1]) == b""
    assert body.receive(event[-1:]).endswith(b"}\n")


def test_a_table_is_a_list_of_rows() -> None:
    table = {"kind": "Table", "columnDefinitions": None, "rows": [{"cells": ["a", "Opaque", 1, "5m"]}], "x": CANARY}
    output = receive(ListBody(Form.TABLE), dump(table), 1, 2, 3)
    assert json.loads(output)["rows"] == [{"cells": ["a", "Opaque", 1, "5m"], "object": None}]
    assert CANARY.encode() not in output


def test_a_list_of_metadata_has_no_data() -> None:
    item = {"kind": "PartialObjectMetadata", **secret()}
    output = receive(ListBody(Form.METADATA), dump(secret_list(item, kind="PartialObjectMetadataList")))
    assert "data" not in json.loads(output)["items"][0]


def test_an_empty_list_may_have_null_as_its_items() -> None:
    empty = {"kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1"}, "items": None}
    assert json.loads(receive(ListBody(Form.METADATA), dump(empty), 80)) == empty


BAD_LISTS = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"no JSON", id="no JSON"),
    pytest.param(b"[]", id="an array"),
    pytest.param(dump(secret_list(secret()))[:-1], id="the last byte is missing"),
    pytest.param(dump(secret_list(secret()))[:-20], id="cut off in an item"),
    pytest.param(dump(secret_list(secret())) + b"{}", id="something after it"),
    pytest.param(dump(secret_list(secret(), kind="PodList")), id="another kind"),
    pytest.param(b'{"items": []}', id="no kind"),
    pytest.param(b'{"kind": "SecretList"}', id="no items"),
    pytest.param(b'{"kind": "SecretList", "items": {}}', id="items that are no list"),
    pytest.param(b'{"kind": "SecretList", "items": [1]}', id="an item that is no object"),
    pytest.param(b'{"kind": "SecretList", "items": [], "items": []}', id="items twice"),
    pytest.param(b'{1: 2}', id="a field without a name"),
    pytest.param(b'{"kind" "SecretList"}', id="no colon"),
    pytest.param(b'{"kind": "SecretList" "items": []}', id="no comma"),
    pytest.param(b'{"kind": "SecretList", "items": [{"metadata": {}} {}]}', id="no comma between items"),
    pytest.param(b'{"kind": "SecretList", "items": [\xff]}', id="no value"),
    pytest.param(b'{"kind": "SecretList", "items": [' + b"[" * 200_000, id="nested too deep"),
    pytest.param(b'{"kind": "SecretList", "metadata": {"continue": NaN}, "items": []}', id="no number"),
]  # fmt: skip


@pytest.mark.parametrize("data", BAD_LISTS)
def test_another_list_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        receive(ListBody(Form.OBJECT), data)


def test_an_unknown_field_of_a_list_is_dropped() -> None:
    assert "x" not in json.loads(receive(ListBody(Form.OBJECT), dump(secret_list(x=CANARY))))


@pytest.mark.parametrize(
    "data", [b'{"type":"ADDED","object":{}', b'{"type":"ADDED","object":{}}', b"<html>", b'{"type":"X","object":{}}']
)
def test_another_watch_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        receive(WatchBody(mask_secret), data)


def test_one_object_is_masked_when_it_is_complete() -> None:
    body = masked_body(Form.OBJECT, "get")
    assert body.receive(dump({"kind": "Secret", **secret()})) == b""
    assert json.loads(body.finish())["data"] == {"p": "bWFza2Vk"}


@pytest.mark.parametrize(
    "data", [b"", b"{}", dump({"kind": "Secret"})[:-1], dump(secret()) + b"{", b"[" * 100_000, dump(secret_list())]
)
def test_another_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        receive(ObjectBody(mask_secret), data)


@pytest.mark.parametrize("verb", ["get", "list", "watch"])
def test_a_body_that_is_too_large_is_refused(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_buffer, "MAX_OBJECT", 1000)
    body, sent = masked_body(Form.OBJECT, verb), 0
    with pytest.raises(ValueError, match="more than 1000"):  # noqa: PT012 - the size at which it ends matters
        for _ in range(100):
            body.receive(b'{"kind":"' if not sent else b"x" * 100)
            sent += 100
    assert sent <= 2000
    assert MAX_OBJECT == 4 << 20


def test_a_status_passes_and_anything_else_is_dropped() -> None:
    status = {"kind": "Status", "code": 404, "reason": "NotFound"}
    assert json.loads(receive(ErrorBody(), dump(status | {"x": CANARY}), 1, 2)) == status
    for other in (b"", CANARY.encode(), dump(secret()), dump([status]), dump(status) + b" " * MAX_STATUS):
        assert receive(ErrorBody(), other) == b""


def test_verbs_have_their_bodies() -> None:
    assert [type(masked_body(Form.TABLE, verb)) for verb in ("get", "list", "watch")] == [
        ObjectBody,
        ListBody,
        WatchBody,
    ]


def large_list(count: int, size: int) -> bytes:
    managed = [{"manager": "kubectl", "fieldsV1": {"f:data": {".": {}, "f:p": {}}, "f:type": {}}}]
    items = [secret(f"s{number}", "A" * size) for number in range(count)]
    for item in items:
        item["metadata"]["managedFields"] = managed
    return dump(secret_list(*items), separators=(",", ":"))


def secret_of_many_keys(count: int) -> dict[str, Any]:
    keys = [f"k{number}" for number in range(count)]
    managed = [{"manager": "kubectl", "fieldsV1": {"f:data": {f"f:{key}": {} for key in keys}}}]
    metadata = {"name": "a", "labels": dict.fromkeys(keys, "l"), "managedFields": managed}
    return {"kind": "Secret", "metadata": metadata, "data": dict.fromkeys(keys, CANARY)}


TRIES = 40


def mask_quickly(create: Callable[[], Body], data: bytes, *, rate: float = 1.0) -> bytes:
    """Return the output. A step takes less than 20 ms of CPU, and a MB takes `rate` seconds at most.

    Other programs of the machine disturb single runs, so one good run of TRIES is enough.
    """
    longest, total, output = 1.0, 0.0, b""
    for _ in range(TRIES):
        body, durations, pieces = create(), [], []
        for start in range(0, len(data), CHUNK):
            started_at = time.process_time()
            pieces.append(body.receive(data[start : start + CHUNK]))
            durations.append(time.process_time() - started_at)
        started_at = time.process_time()
        output = b"".join([*pieces, body.finish()])
        durations.append(time.process_time() - started_at)
        longest, total = max(durations), sum(durations)
        if longest < 0.020 and total < rate * len(data) / 1e6:
            return output
    pytest.fail(f"{longest} s for a step, and {total} s for {len(data)} bytes")


def test_a_list_of_5000_secrets_takes_little_time() -> None:
    output = mask_quickly(lambda: ListBody(Form.OBJECT), large_list(5000, 1000), rate=0.040)
    assert len(json.loads(output)["items"]) == 5000


def test_small_items_are_encoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encode = json_buffer._encode

    def count(value: object) -> str:
        sizes.append(len(value) if isinstance(value, list) else 0)
        return encode(value)

    monkeypatch.setattr(json_buffer, "_encode", count)
    data, body = large_list(1000, 20), ListBody(Form.OBJECT)
    for start in range(0, len(data), CHUNK):
        body.receive(data[start : start + CHUNK])
    body.finish()
    assert sum(sizes) == 1000
    assert len(sizes) < 15


MANY_KEYS = secret_of_many_keys(60_000)


@pytest.mark.parametrize(
    ("create", "value"),
    [
        pytest.param(lambda: masked_body(Form.OBJECT, "get"), MANY_KEYS, id="an object"),
        pytest.param(
            lambda: masked_body(Form.OBJECT, "watch"), {"type": "ADDED", "object": MANY_KEYS}, id="an event of a watch"
        ),
        pytest.param(
            lambda: masked_body(Form.TABLE, "list"),
            {"kind": "Table", "rows": [{"cells": ["a", "Opaque", 1, "5m"], "object": MANY_KEYS}]},
            id="a row of a table",
        ),
    ],
)
def test_a_secret_of_60000_keys_is_masked_in_short_steps(create: Callable[[], Body], value: dict[str, Any]) -> None:
    output = mask_quickly(create, dump(value))
    assert output.count(b"bWFza2Vk") == 60_000
    assert CANARY.encode() not in output


def test_many_pieces_of_one_event_are_not_parsed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    scan = json_buffer._scan

    def count(text: str, start: int) -> Any:
        calls.append(start)
        return scan(text, start)

    monkeypatch.setattr(json_buffer, "_scan", count)
    body = WatchBody(mask_secret)
    body.receive(b'{"type":"ADDED","object":{"metadata":{},"data":{"p":"')
    for _ in range(3000):
        body.receive(b"}")
    assert len(calls) < 30
    assert body.receive(b'"}}}' + b" " * 4000).count(b"bWFza2Vk") == 1


def secret_of_one_value(size: int, text: str) -> dict[str, Any]:
    return {"metadata": {"name": "s", "annotations": {"a": text}}, "data": {"p": "A" * size}}


@pytest.mark.parametrize(
    ("items", "largest"),
    [
        pytest.param([secret_of_one_value(1_000_000, "")] * 3, 1_000_000, id="ASCII"),
        pytest.param([secret_of_one_value(1_000_000, "\N{GRINNING FACE}")] * 3, 1_000_000, id="not ASCII"),
        pytest.param([secret_of_many_keys(15_000)], 500_000, id="many keys"),
    ],
)
def test_a_large_object_takes_at_most_four_times_its_size(items: list[dict[str, Any]], largest: int) -> None:
    data = dump(secret_list(*items))
    body = ListBody(Form.OBJECT)
    tracemalloc.start()
    try:
        for start in range(0, len(data), CHUNK):
            body.receive(data[start : start + CHUNK])
        body.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data) > len(items) * largest
    assert peak < 4 * largest + 2_000_000
