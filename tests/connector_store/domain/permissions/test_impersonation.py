from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.callers.access import Identity
from connector_store.domain.permissions.impersonation import (
    MAX_HEADER_BYTES,
    Impersonation,
    parse_impersonation,
    write_impersonation_headers,
)

PREFIXED = Impersonation(user_prefix="c:", group_prefix="g:")
BARE = Impersonation(user_prefix="", group_prefix="")


def parsed(value: object) -> Impersonation | None:
    return parse_impersonation(Fields({"impersonate": value}, "spec"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param({}, Impersonation(user_prefix="connectors:", group_prefix="connectors:"), id="the usual prefixes"),
        pytest.param(
            {"userPrefix": "u-"}, Impersonation(user_prefix="u-", group_prefix="connectors:"), id="of its own"
        ),
        pytest.param({"userPrefix": "", "groupPrefix": ""}, BARE, id="none"),
    ],
)
def test_impersonate_is_parsed(value: object, expected: Impersonation | None) -> None:
    assert parsed(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"userprefix": "a"},
            "spec.impersonate.userprefix: is not a field; impersonate has userPrefix and groupPrefix",
        ),
        ({"userPrefix": 5}, "spec.impersonate.userPrefix: is not a string; put it in quotes"),
        ({"groupPrefix": "system:"}, "spec.impersonate.groupPrefix: is not a prefix"),
        ({"groupPrefix": "system:node:"}, "spec.impersonate.groupPrefix: is not a prefix"),
        ({"userPrefix": "a b"}, "spec.impersonate.userPrefix: is not a prefix"),
        ({"userPrefix": "a" * 64}, "spec.impersonate.userPrefix: is not a prefix"),
        ("a", "spec.impersonate: is not an object"),
    ],
)
def test_invalid_prefixes_are_refused(value: object, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parsed(value)
    assert str(caught.value).startswith(message)


def test_all_attributes_of_the_caller_are_written() -> None:
    identity = Identity(
        user="system:serviceaccount:web:ci",
        uid="1-2",
        groups=("system:serviceaccounts", "system:masters", "dév"),
        extra={"example.com/B%": ("x", "y"), "a": ("",)},
    )
    assert write_impersonation_headers(PREFIXED, identity) == (
        b"Impersonate-User: c:system:serviceaccount:web:ci\r\n"
        b"Impersonate-Uid: 1-2\r\n"
        b"Impersonate-Group: g:system:serviceaccounts\r\n"
        b"Impersonate-Group: g:d\xc3\xa9v\r\n"
        b"Impersonate-Extra-a: \r\n"
        b"Impersonate-Extra-example.com%2F%42%25: x\r\n"
        b"Impersonate-Extra-example.com%2F%42%25: y\r\n"
    )


def test_a_space_behind_a_prefix_is_passed_on() -> None:
    headers = write_impersonation_headers(PREFIXED, Identity(user=" a b", groups=(" system:masters",)))
    assert headers == b"Impersonate-User: c: a b\r\nImpersonate-Group: g: system:masters\r\n"


def test_system_groups_without_a_prefix_are_omitted() -> None:
    headers = write_impersonation_headers(
        BARE, Identity(user="jane", groups=("system:authenticated", "system:masters", "dev"))
    )
    assert headers == b"Impersonate-User: jane\r\nImpersonate-Group: dev\r\n"


def test_prefix_and_name_together_must_not_form_a_system_name() -> None:
    half = Impersonation(user_prefix="sys", group_prefix="sys")
    assert b"Group" not in write_impersonation_headers(half, Identity(user="jane", groups=("tem:masters",)))
    with pytest.raises(ParseError):
        write_impersonation_headers(half, Identity(user="tem:admin"))


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (Identity(user="system:admin"), "a name of Kubernetes itself is not passed on without a prefix"),
        (Identity(user=""), "a name of Kubernetes itself"),
        (Identity(user="a\r\nX: y"), "the caller's name, groups or claims have control characters"),
        (Identity(user="a", groups=("b\n",)), "the caller's name, groups or claims have control characters"),
        (Identity(user="a "), "the caller's name, groups or claims have white space at an end"),
        (Identity(user=" system:admin"), "the caller's name, groups or claims have white space at an end"),
        (Identity(user="a", uid="1\u00a0"), "the caller's name, groups or claims have white space at an end"),
        (Identity(user="a", groups=(" system:masters",)), "the caller's name, groups or claims have white space"),
        (Identity(user="a", extra={"k": ("v", " ")}), "the caller's name, groups or claims have white space"),
        (
            Identity(user="a", groups=("b" * MAX_HEADER_BYTES,)),
            "the caller's groups and claims need more than 16384 bytes",
        ),
    ],
)
def test_callers_that_cannot_be_impersonated(identity: Identity, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        write_impersonation_headers(BARE, identity)
    assert str(caught.value).startswith(message)


@given(st.text(alphabet="stem:mar\r\nA%/ é", max_size=20), st.lists(st.text(alphabet="stem:mar\n ", max_size=15)))
def test_no_caller_can_add_a_system_name_or_a_header_line(user: str, groups: list[str]) -> None:
    for prefixes in (BARE, PREFIXED, Impersonation(user_prefix="s", group_prefix="sys")):
        try:
            headers = write_impersonation_headers(prefixes, Identity(user=user, groups=tuple(groups)))
        except ParseError:
            continue
        lines = headers.decode().split("\r\n")[:-1]
        assert all(each.startswith("Impersonate-") for each in lines)
        # Servers remove white space around a value.
        values = [each.partition(":")[2].strip() for each in lines]
        assert not any(value.startswith("system:") for value in values)
        assert values[0] == prefixes.user_prefix + user


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_every_extra_key_is_decoded_by_the_server(key: str) -> None:
    line = write_impersonation_headers(BARE, Identity(user="a", extra={key: ("v",)})).decode("ascii").split("\r\n")[1]
    name = line.partition(": ")[0]
    # apiserver/pkg/endpoints/filters/impersonation.go
    assert unquote(name.removeprefix("Impersonate-Extra-").lower()) == key


def test_the_access_request_is_an_extra_value_that_callers_cannot_bring_along() -> None:
    identity = Identity(
        user="jane",
        extra={"connectors.alauda.io/access-request": ("forged",), "Connectors.Alauda.io/Access-Request": ("x",)},
    )
    assert write_impersonation_headers(PREFIXED, identity) == b"Impersonate-User: c:jane\r\n"
    assert write_impersonation_headers(PREFIXED, identity, "team-a/r") == (
        b"Impersonate-User: c:jane\r\nImpersonate-Extra-connectors.alauda.io%2Faccess-request: team-a/r\r\n"
    )
