"""JSON of any depth is loaded, and only deeper levels are removed."""

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


def truncate(value: object, levels: int) -> object:
    """Limit the depth of a decoded value, as `limit_depth` does for its text."""
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        return None
    if isinstance(value, list):
        return [truncate(item, levels - 1) for item in value]
    return {key: truncate(item, levels - 1) for key, item in value.items()}


@given(JSON, st.integers(0, 5), st.booleans())
def test_in_every_value_only_deeper_levels_become_null(value: object, max_depth: int, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json.loads(limit_depth(text, max_depth)) == truncate(value, max_depth)


@given(JSON)
def test_every_value_is_loaded_from_its_text(value: object) -> None:
    assert load_json(json.dumps(value).encode()) == value


def test_siblings_of_deeper_values_remain() -> None:
    text = b'{"items": [{"name": "a", "deep": ' + b"[" * 20_000 + b"]" * 20_000 + b'}, {"name": "b"}]}'
    document = load_json(text)
    assert isinstance(document, dict)
    first, second = document["items"]
    assert (first["name"], second) == ("a", {"name": "b"})
    levels, inner = 0, first["deep"]
    while inner:
        levels, inner = levels + 1, inner[0]
    assert levels == MAX_DEPTH - 3


@pytest.mark.parametrize("text", [b"", b"[", b"<html>", b'"\xff"'])
def test_invalid_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        load_json(text)
