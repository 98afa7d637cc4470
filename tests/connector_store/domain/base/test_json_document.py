"""JSON of any depth is read, and what is cut out of it is only what lies too deep."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.json_document import MAX_DEPTH, limit_depth, load_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def cut(value: object, levels: int) -> object:
    """What `shallow` promises, said of values."""
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        return None
    if isinstance(value, list):
        return [cut(each, levels - 1) for each in value]
    return {key: cut(each, levels - 1) for key, each in value.items()}


@given(JSON, st.integers(0, 5), st.booleans())
def test_in_every_value_only_deeper_levels_become_null(value: object, deepest: int, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json.loads(limit_depth(text, deepest)) == cut(value, deepest)


@given(JSON)
def test_every_value_is_loaded_from_its_text(value: object) -> None:
    assert load_json(json.dumps(value).encode()) == value


def test_siblings_of_deeper_values_remain() -> None:
    text = b'{"items": [{"name": "a", "deep": ' + b"[" * 20_000 + b"]" * 20_000 + b'}, {"name": "b"}]}'
    found = load_json(text)
    assert isinstance(found, dict)
    first, second = found["items"]
    assert (first["name"], second) == ("a", {"name": "b"})
    levels, inner = 0, first["deep"]
    while inner:
        levels, inner = levels + 1, inner[0]
    assert levels == MAX_DEPTH - 3


@pytest.mark.parametrize("text", [b"", b"[", b"<html>", b'"\xff"'])
def test_invalid_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        load_json(text)
