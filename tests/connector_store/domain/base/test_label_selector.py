"""Selection of objects by name and labels."""

from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.label_selector import parse_object_selector

LABELS = {"env": "prod", "tier": "gold"}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator} | ({"values": list(values)} if values else {})]}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        pytest.param({}, True, id="an empty selector matches everything"),
        pytest.param({"names": ["a", "b"]}, True, id="one of the names"),
        pytest.param({"names": ["b"]}, False, id="another name"),
        pytest.param({"matchLabels": {"env": "prod"}}, True, id="a label that the object has"),
        pytest.param({"matchLabels": {"env": "prod", "tier": "x"}}, False, id="all labels must match"),
        pytest.param({"matchLabels": {"other": ""}}, False, id="an absent label is not an empty one"),
        pytest.param(expression("env", "In", "dev", "prod"), True, id="In"),
        pytest.param(expression("other", "In", "prod"), False, id="In, without the label"),
        pytest.param(expression("env", "NotIn", "prod"), False, id="NotIn"),
        pytest.param(expression("other", "NotIn", "prod"), True, id="NotIn, without the label"),
        pytest.param(expression("env", "Exists"), True, id="Exists"),
        pytest.param(expression("env", "DoesNotExist"), False, id="DoesNotExist"),
        pytest.param({"names": ["a"], "matchLabels": {"env": "dev"}}, False, id="name and labels must match"),
        pytest.param({"names": ["a"]} | expression("env", "In", "dev"), False, id="name and expressions must match"),
    ],
)
def test_a_selector_matches(selector: dict[str, Any], matches: bool) -> None:
    assert parse_object_selector(Fields(selector, "spec")).matches("a", LABELS) is matches


def test_a_selector_knows_what_it_uses() -> None:
    empty, names, labels, requirements = (
        parse_object_selector(Fields(each, ""))
        for each in ({}, {"names": ["a"]}, {"matchLabels": {"a": "b"}}, expression("a", "Exists"))
    )
    assert [each.is_empty for each in (empty, names, labels, requirements)] == [True, False, False, False]
    assert [each.uses_labels for each in (empty, names, labels, requirements)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("selector", "path"),
    [
        ({"names": "a"}, "spec.names"),
        ({"matchLabels": {"a": 1}}, "spec.matchLabels.a"),
        (expression("", "Exists"), "spec.matchExpressions[0].key"),
        (expression("a", "Is"), "spec.matchExpressions[0].operator"),
        (expression("a", "In"), "spec.matchExpressions[0].values"),
        (expression("a", "Exists", "b"), "spec.matchExpressions[0].values"),
    ],
)
def test_an_error_names_the_field(selector: dict[str, Any], path: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_object_selector(Fields(selector, "spec"))
    assert error.value.path == path
