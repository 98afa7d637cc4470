"""Types of the options of the access commands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connectorctl.access_manifests import make_subject
from connectorctl.access_params import MAX_NAME, parse_namespace, parse_object_name, parse_text, parse_user


@pytest.mark.parametrize("text", ["INC-7, restart", " x ", "grüße", "重启", "x" * 8])
def test_a_line_of_text_is_kept(text: str) -> None:
    assert parse_text(text, 16) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty", id="nothing"),
        pytest.param("\t\n ", "is empty", id="spaces"),
        pytest.param("x" * 17, "has more than 16 characters", id="too long"),
        pytest.param("a\nb", "has line breaks", id="a line break"),
        pytest.param("a\x1b[2J", "has line breaks", id="an escape sequence"),
        pytest.param("a\x9bb", "has line breaks", id="a C1 control character"),
        pytest.param("a\u202eb", "has line breaks", id="a bidirectional override"),
        pytest.param("a\u200bb", "has line breaks", id="a space without width"),
        pytest.param("a\u2028b", "has line breaks", id="a line separator"),
        pytest.param("a\udc80b", "has line breaks", id="a byte that is not UTF-8"),
    ],
)
def test_other_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_text(text, 16)


@given(st.text(max_size=40))
def test_every_text_that_is_accepted_can_be_printed_and_encoded(text: str) -> None:
    try:
        accepted = parse_text(text, 32)
    except ParseError:
        return
    assert accepted == text
    assert accepted.isprintable()
    assert accepted.encode()
    assert parse_text(accepted, 32) == text, "click parses a default twice"


@pytest.mark.parametrize("name", ["jane", "oidc:jane@example.com", "system:serviceaccount:ci:robot.v2", "system:admin"])
def test_user_names_are_kept(name: str) -> None:
    assert parse_user(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "jane\n",
        "x" * (MAX_NAME + 1),
        "system:serviceaccount:",
        "system:serviceaccount:ci",
        "system:serviceaccount:ci:",
        "system:serviceaccount::robot",
        "system:serviceaccount:ci:robot:x",
        "system:serviceaccount:CI:robot",
        "system:serviceaccount:c.i:robot",
    ],
)
def test_other_user_names_are_refused(name: str) -> None:
    with pytest.raises(ParseError):
        parse_user(name)


def test_an_accepted_account_has_a_namespace_and_a_name() -> None:
    assert make_subject(parse_user("system:serviceaccount:ci:robot")) == {
        "kind": "ServiceAccount",
        "namespace": "ci",
        "name": "robot",
    }


@pytest.mark.parametrize("parse", [parse_namespace, parse_object_name])
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "a b", "-a", "a\n", "é", "x" * 254])
def test_what_cannot_be_the_name_of_an_object_is_refused(parse: object, name: str) -> None:
    assert callable(parse)
    with pytest.raises(ParseError):
        parse(name)


def test_a_namespace_has_no_dot_and_other_names_may_have_one() -> None:
    assert parse_namespace("team-a") == "team-a"
    assert parse_object_name("on-call.v2") == "on-call.v2"
    with pytest.raises(ParseError, match="is not the name of a namespace"):
        parse_namespace("team.a")
