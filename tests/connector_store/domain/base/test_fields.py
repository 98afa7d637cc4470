from collections.abc import Callable

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields

SPEC = Fields(
    {"text": "a", "flag": True, "number": 3, "child": {"x": "y"}, "items": [{"n": "1"}, None], "null": None, 5: "five"},
    "spec",
)


def test_fields_of_the_right_type_are_returned() -> None:
    assert Fields({"t": ["a", "b"]}, "").texts("t") == ("a", "b")
    assert SPEC
    assert (SPEC.text("text"), SPEC.flag("flag"), SPEC.number("number")) == ("a", True, 3)
    assert SPEC.child("child").text("x") == "y"
    assert [each.text("n") for each in SPEC.items("items")] == ["1", None]
    assert SPEC.value("items") == [{"n": "1"}, None]
    assert "5" in SPEC.names()


@pytest.mark.parametrize("name", ["absent", "null"])
def test_absent_and_null_fields_are_empty(name: str) -> None:
    assert SPEC.text(name) is None
    assert not SPEC.flag(name)
    assert SPEC.number(name) == 0
    assert not SPEC.child(name)
    assert SPEC.items(name) == []
    assert SPEC.texts(name) == ()


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: SPEC.text("number"), "spec.number: is not a string; put it in quotes"),
        (lambda: SPEC.flag("text"), "spec.text: is neither true nor false"),
        (lambda: SPEC.number("text"), "spec.text: is not a whole number"),
        (lambda: SPEC.number("flag"), "spec.flag: is not a whole number"),
        (lambda: SPEC.child("text"), "spec.text: is not an object"),
        (lambda: SPEC.items("child"), "spec.child: is not a list"),
        (lambda: Fields({"items": ["a"]}, "").items("items"), "items[0]: is not an object"),
        (lambda: Fields([], ""), "is not an object"),
        (lambda: SPEC.texts("text"), "spec.text: is not a list"),
        (lambda: Fields({"t": ["a", 5]}, "spec").texts("t"), "spec.t[1]: is not a string; put it in quotes"),
        (
            lambda: Fields({"c": 1, "b": 1, "a": 1}, "spec").reject_others(["a"], "spec has a"),
            "spec.b: is not a field; spec has a",
        ),
    ],
)
def test_a_wrong_type_names_the_field(read: Callable[[], object], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        read()
    assert str(caught.value) == message


def test_fields_that_are_named_are_not_rejected() -> None:
    SPEC.reject_others(SPEC.names(), "it has these")
