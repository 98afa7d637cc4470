"""Buffer of JSON text: any split of the bytes gives the same values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.permissions import json_buffer
from connector_store.domain.permissions.json_buffer import IncompleteError, JsonBuffer, decode, encode


def read_one(text: bytes, method: str, *arguments: str) -> Any:
    """Return the result of a method for a buffer with `text`. Raises IncompleteError where the text ends."""
    buffer = JsonBuffer()
    results: list[Any] = []
    buffer.receive(text)

    def step() -> None:
        if results:
            raise IncompleteError
        results.append(getattr(buffer, method)(*arguments))

    buffer.read(step)
    if not results:
        raise IncompleteError
    return results[0]


@given(values=st.lists(st.dictionaries(st.text(), st.text() | st.integers(), max_size=3)), size=st.integers(1, 50))
def test_any_split_gives_the_same_values(values: list[object], size: int) -> None:
    data = b" \n".join(json.dumps(value, ensure_ascii=False).encode() for value in values)
    buffer, result = JsonBuffer(), []
    for start in range(0, len(data), size):
        if buffer.receive(data[start : start + size]):
            buffer.read(lambda: result.append(buffer.value()))
    buffer.read(lambda: result.append(buffer.value()))
    assert json.loads(encode(result)) == values
    assert buffer.is_at_end


@pytest.mark.parametrize(
    ("text", "method", "arguments", "result"),
    [
        (b" \t\r\n{", "peek", (), "{"),
        (b" [", "sign", (), "["),
        (b" ,", "expect", (",}",), ","),
        (b", 1", "accept", (",",), True),
        (b" ,", "accept", (",",), False),
        (b"1 ", "value", (), 1),
        (b'{"a":1}', "value", (), {"a": 1}),
        (b'"a": "b\\"}", "c" :null , "d', "pairs", (), {"a": 'b"}', "c": None}),
        (b'"a":"b" }', "pairs", (), {"a": "b"}),
        (b'"a":{},"b\\"[":[1]}', "bracket", (), "["),
        (b'"a":{},"b', "bracket", (), ""),
    ],
)
def test_a_method_reads_what_is_next(text: bytes, method: str, arguments: tuple[str, ...], result: object) -> None:
    assert read_one(text, method, *arguments) == result


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (b"", "peek"),
        (b" \n", "sign"),
        (b"12", "value"),
        (b'"a', "value"),
        (b"", "value"),
        (b"nonsense", "value"),
        (b'"a":"b"', "pairs"),
        (b'"a":{"b":1},', "pairs"),
        (b'"a', "bracket"),
        (b"", "bracket"),
    ],
)
def test_an_incomplete_value_is_not_read(text: bytes, method: str) -> None:
    with pytest.raises(IncompleteError):
        read_one(text, method)


@pytest.mark.parametrize(
    ("text", "method", "arguments"),
    [(b"}", "expect", (",",)), (b"[" * 200_000, "value", ()), (b'"\n":"a",', "pairs", ())],
)
def test_other_text_is_refused(text: bytes, method: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|deep|control"):
        read_one(text, method, *arguments)


def test_an_interrupted_step_returns_to_its_beginning_or_behind_an_accepted_sign() -> None:
    buffer, values = JsonBuffer(), []

    def read_two() -> None:
        values.append(buffer.value())
        buffer.accept(",")
        values.append(buffer.value())

    buffer.receive(b"{},")
    buffer.read(read_two)
    assert values == [{}]
    assert (buffer.offset, buffer.is_at_end) == (3, True)
    buffer.receive(b' {"a":1}')
    buffer.read(lambda: values.append(buffer.value()))
    assert values == [{}, {"a": 1}]
    assert buffer.offset == 11


def test_the_rest_is_what_was_not_read() -> None:
    assert read_one(b"{}", "__class__") is not None
    buffer, sizes = JsonBuffer(), []
    buffer.receive(b"[ {} ")

    def step() -> None:
        buffer.sign()
        sizes.append(buffer.rest_size)

    buffer.read(step)
    assert sizes == [4, 2, 1]


def test_an_incomplete_value_waits_for_half_as_much_again() -> None:
    buffer = JsonBuffer()
    assert buffer.receive(b'"' + b"a" * 9)
    buffer.read(buffer.value)
    assert [buffer.receive(b"a"), buffer.receive(b"}"), buffer.receive(b"aaaa")] == [False, False, True]


def test_a_prompt_buffer_reads_when_a_value_may_be_complete() -> None:
    buffer = JsonBuffer(is_prompt=True)
    buffer.receive(b'{"a":"' + b"a" * 1000)
    buffer.read(buffer.value)
    assert [buffer.receive(b"a"), *(buffer.receive(b"}\n") for _ in range(17))] == [False] + [True] * 16 + [False]


def test_a_value_has_a_maximum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_buffer, "MAX_OBJECT", 10)
    buffer = JsonBuffer()
    assert buffer.receive(b'"' + b"a" * 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        buffer.read(buffer.value)


def test_bytes_that_are_not_utf8_pass() -> None:
    assert encode(read_one(b'{"a":"\xff\xc3\xbc"}', "value")) == b'{"a":"\xff\xc3\xbc"}'


def test_json_that_is_nested_too_deep_is_refused() -> None:
    nested: list[object] = []
    for _ in range(200_000):
        nested = [nested]
    with pytest.raises(ValueError, match="too deep"):
        encode(nested)
    with pytest.raises(ValueError, match="too deep"):
        decode(b"[" * 200_000)
    assert decode(b"[1]") == [1]
