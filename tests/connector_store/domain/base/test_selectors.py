import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.selectors import is_label_selector, required_name, selected_fields

NAME = "a" * 63


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("metadata.name=p", "p", id="a name"),
        pytest.param("metadata.name==p", "p", id="two signs"),
        pytest.param("metadata.name!=p", "", id="all but one"),
        pytest.param("metadata.name=q,metadata.name=p", "p", id="terms are sorted"),
        pytest.param(",metadata.name=p,", "p", id="empty terms"),
        pytest.param("metadata.name=", "", id="an empty name"),
        pytest.param("Metadata.name=p", "", id="another field"),
        pytest.param(r"metadata.name=a\,b\=c\\d", r"a,b=c\d", id="escapes"),
        pytest.param(r"metadata.name=a\x", None, id="an unknown escape"),
        pytest.param("metadata.name=a\\", None, id="half an escape"),
        pytest.param("metadata.name=a\\\n", None, id="an escaped line end"),
        pytest.param("metadata.name=a=b", None, id="a sign in the value"),
        pytest.param("metadata.name=p,foo", None, id="a term without a sign"),
    ],
)
def test_the_name_that_a_field_selector_requires(selector: str, name: str | None) -> None:
    assert required_name(selector) == name


@pytest.mark.parametrize(
    "selector",
    [
        "", " ", "a", "!a", "! a ", "a,b", "a , !b", "a=b", "a = b", "a==b", "a!=b", "a=", "a!=,b", "a=in", "in=b",
        "notin",
        "in in (in,notin)", "a in (b)", "a in(b)", "a notin (b,c)", "a in ()", "a in (,)", "a in (,b,,c,)", "a>5",
        "a <6",
        "example.com/a=b", f"{NAME}={NAME}", "a=b\0", "a\0", "\0 anything (", "a=b\t\r\n", "A.b_c-D=1",
        "a>9223372036854775807",
    ],
)  # fmt: skip
def test_valid_label_selectors(selector: str) -> None:
    assert is_label_selector(selector)


@pytest.mark.parametrize(
    "selector",
    [
        ",", "a,", "a,,b", "=", "=a", "!", "!!a", "!a=b", "a b", "a in", "a in b", "a in (b", "a in (b c)", "a in (=)",
        "a in (b))", "a=b=c", "a=(b)", "a=b c", "a=-b", "a=b-", "-a", "a.", "/a", "a/", "a/b/c", "A/b", "a>", "a>b",
        "a>-1",
        "a<b,c", "a<(", "a>9223372036854775808", f"{NAME}a", f"a={NAME}a", "a in (b,-)", "é", "a\0b", "a\0=\0b c",
        "a=b;c",
        "a in ((b))", "(", "a)", "a=\"b\"",
    ],
)  # fmt: skip
def test_invalid_label_selectors(selector: str) -> None:
    assert not is_label_selector(selector)


@given(st.text(alphabet="ab/=!<>(),in not\0\t\\-.", max_size=30))
def test_every_text_is_parsed_without_an_error(selector: str) -> None:
    assert is_label_selector(selector) in (True, False)
    name = required_name(selector)
    assert name is None or isinstance(name, str)


@pytest.mark.parametrize(
    ("selector", "fields"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("metadata.name=a,type!=b,,data==c", ["data", "metadata.name", "type"], id="three fields"),
        pytest.param(r"type=a\,data=b", None, id="an escape before a field"),
        pytest.param("type", None, id="no sign"),
    ],
)
def test_fields_of_a_selector(selector: str, fields: list[str] | None) -> None:
    selected = selected_fields(selector)
    assert (None if selected is None else sorted(selected)) == fields
