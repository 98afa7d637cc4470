"""Text of users cannot change how an output is shown."""

import re
from pathlib import Path

import pytest
import yaml

from connector_store.domain.base.printable import printable

CRD = Path(__file__).parents[4] / "deploy" / "crds" / "connectors.yaml"

unprintable_characters = pytest.mark.parametrize(
    "character",
    [
        pytest.param("\x1b", id="escape"),
        pytest.param("\n", id="line feed"),
        pytest.param("\r", id="carriage return"),
        pytest.param("\x9b", id="C1 control sequence"),
        pytest.param("\x7f", id="delete"),
        pytest.param("\u202e", id="right-to-left override"),
        pytest.param("\u2066", id="isolate"),
        pytest.param("\u200b", id="zero width space"),
        pytest.param("\u2028", id="line separator"),
        pytest.param("\ud800", id="surrogate"),
    ],
)


@unprintable_characters
def test_a_character_that_changes_an_output_is_replaced(character: str) -> None:
    assert printable(f"a{character}b") == "a?b"


def test_other_text_stays() -> None:
    assert printable("Ä ö 角色 😀 ~") == "Ä ö 角色 😀 ~"


@unprintable_characters
def test_the_api_server_refuses_it_in_names_that_are_shown(character: str) -> None:
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]["properties"]
    auth = spec["auth"]["properties"]
    role = spec["permissions"]["properties"]["allow"]["items"]["properties"]["clusterRole"]
    for field in (spec["connectorClassName"], auth["name"], auth["params"]["items"]["properties"]["name"], role):
        assert re.search(field["pattern"], "system:Some-role 角色")
        # JSON cannot have an unpaired surrogate.
        assert character == "\ud800" or not re.search(field["pattern"], f"a{character}b")
