"""Large objects are read part by part, with the result of reading them whole."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.permissions import object_reader
from connector_store.domain.permissions.json_buffer import JsonBuffer, encode
from connector_store.domain.permissions.mask import mask_event, mask_secret, mask_table
from connector_store.domain.permissions.object_reader import ObjectReader

CANARY = "c4n4ry"
LARGE = 64
FILLER = "f" * LARGE
SECRET: dict[str, Any] = {
    "kind": "Secret",
    "metadata": {
        "labels": {"a": "b", "c": "d"},
        "managedFields": [{"fieldsV1": {"f:data": {"f:a": {}, 'f:]"}': {"f:b": {}}}}, "note": "[{"}],
        "name": "a",
        "annotations": {"a": FILLER},
        "ownerReferences": [{"uid": "1"}],
    },
    "data": {"a": CANARY, 'b"\\': FILLER, "c": None},
    "stringData": {},
    "unknown": [CANARY],
}
EVENT = {"type": "ADDED", "object": SECRET}
TABLE = {"kind": "Table", "metadata": {}, "rows": [{"cells": ["a", "Opaque", 1, "5m"], "object": SECRET}]}
TABLE_EVENT = {"type": "ADDED", "object": TABLE}
CASES = [
    pytest.param(SECRET, mask_secret, id="a Secret"),
    pytest.param(EVENT, lambda event: mask_event(event, mask_secret), id="an event"),
    pytest.param(TABLE, mask_table, id="a table"),
    pytest.param(TABLE_EVENT, lambda event: mask_event(event, mask_table), id="an event with a table"),
]
Rewrite = Callable[[Any], object]


@pytest.fixture(autouse=True, scope="module")
def _small_objects_are_large() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(object_reader, "LARGE_OBJECT", LARGE)
        yield


def read(data: bytes, rewrite: Rewrite, *, size: int, start: int = 0) -> list[object]:
    """Read all objects in pieces: one of `start` bytes, and then of `size`."""
    buffer, objects = JsonBuffer(), []
    reader = ObjectReader(buffer, rewrite)

    def step() -> None:
        if (item := reader.read()) is not None:
            objects.append(item)

    for piece in [data[:start], *(data[at : at + size] for at in range(start, len(data), size)), b""]:
        buffer.receive(piece)
        buffer.read(step)
    return objects


@pytest.mark.parametrize(("value", "rewrite"), CASES)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_large_object_equals_the_same_object_read_whole(
    value: dict[str, Any], rewrite: Rewrite, indent: int | None
) -> None:
    data = json.dumps(value, indent=indent).encode()
    whole = read(data, rewrite, size=len(data))
    assert whole == [rewrite(value)]
    large = read(data * 2, rewrite, size=LARGE + 20)
    assert [type(item) for item in large] == [bytes, bytes]
    assert [json.loads(item) for item in large if isinstance(item, bytes)] == json.loads(encode(whole * 2))
    assert CANARY.encode() not in encode([str(item) for item in large])


@given(sizes=st.integers(1, 7), text=st.text(), keys=st.lists(st.text(), unique=True, max_size=4))
def test_any_text_in_any_pieces_gives_the_masked_object(sizes: int, text: str, keys: list[str]) -> None:
    managed = [{"manager": text, "fieldsV1": {key: [{text: {}}] for key in keys}}]
    value = {"metadata": {"labels": dict.fromkeys(keys, text), "managedFields": managed}, "data": {text: text}}
    data = b'{"a":"%b",' % FILLER.encode() + json.dumps(value, ensure_ascii=False).encode("utf-8")[1:]
    (large,) = read(data, mask_secret, size=sizes, start=LARGE + 20)
    assert isinstance(large, bytes)
    assert json.loads(large) == mask_secret(value)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param('"managedFields":null}', id="no managed fields"),
        pytest.param('"managedFields":{}}', id="managed fields that are an empty object"),
        pytest.param('"managedFields":[]}', id="empty managed fields"),
        pytest.param('"data":null}', id="no data"),
        pytest.param('"data":{"a":null}}', id="data that is null"),
        pytest.param('"rows":[]}', id="an empty list"),
        pytest.param('"object":{"metadata":{}}}', id="empty metadata"),
        pytest.param('"data":{"c4n4ry":"x"},"data":{"a":"b"}}', id="data twice"),
        pytest.param('"rows":[1,{"data":{"a":"b"}},[2]]}', id="a list of other values"),
    ],
)
def test_an_object_equals_its_parsed_text(end: str) -> None:
    (large,) = read((f'{{"a":"{FILLER}",' + end).encode(), lambda value: value, size=LARGE + 100)
    assert not isinstance(large, bytes)
    (large,) = read((f'{{"a":"{FILLER}",' + end).encode(), lambda value: value, size=5, start=LARGE + 5)
    expected = json.loads(
        f'{{"a":"{FILLER}",' + end.replace('"b"', '"bWFza2Vk"').replace('{"a":null}', '{"a":"bWFza2Vk"}')
    )
    assert json.loads(str(large, "ascii") if isinstance(large, bytes) else "") == {
        name: field for name, field in expected.items() if name != "managedFields" or field is None
    }


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("1:2}", "without a name"),
        ('"b" 1}', "expected"),
        ('"b":1 "c":2}', "expected"),
        ('"metadata":{}]', "expected"),
        ('"rows":[{}}', "expected"),
        ('"kind":"Pod","metadata":{}}', "kind"),
        ('"metadata":{},"data":"c4n4ry"}', "not an object"),
        ('"metadata":{},"data":{"a":"b"},"data":[1]}', "not an object"),
        ('"metadata":{"labels":{"\\x":"a"}}}', "escape"),
    ],
)
def test_another_object_is_refused(end: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read((f'{{"a":"{FILLER}",' + end).encode(), mask_secret, size=7, start=LARGE + 10)


@pytest.mark.parametrize("start", ['{"data":{', '{"metadata":{"labels":{', '{"metadata":{"managedFields":[{"a":"'])
def test_a_large_object_has_a_maximum_size(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_reader, "MAX_OBJECT", 1000)
    endless = start + '"k":"v",' * 200 if start.endswith("{") else start + '","b":"' * 200
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        read(endless.encode(), mask_secret, size=100)


@pytest.mark.parametrize(("data", "count"), [(b"[" + b" " * LARGE, 0), (b'{"a":1}', 1), (b"  ", 0)])
def test_anything_else_waits_for_its_end(data: bytes, count: int) -> None:
    assert len(read(data, lambda value: value, size=len(data))) == count


def test_rewriting_may_replace_what_was_read_part_by_part() -> None:
    data = b'{"metadata":{"labels":{"a":"b"},"x":"%b"}}' % FILLER.encode()
    assert read(data, lambda _: {"metadata": 1}, size=LARGE + 10) == [b'{"metadata":1}']
