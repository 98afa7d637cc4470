"""Names of Kubernetes objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey, is_dns_label, is_dns_subdomain

LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "label", "subdomain"),
    [
        pytest.param("a", True, True, id="one letter is both"),
        pytest.param("a-1", True, True, id="a dash inside is both"),
        pytest.param("a" * 63, True, True, id="63 characters are a label"),
        pytest.param("a" * 64, False, True, id="64 characters are only a subdomain"),
        pytest.param("a.b", False, True, id="a dot makes it a subdomain"),
        pytest.param("a" * 253, False, True, id="253 characters are a subdomain"),
        pytest.param("a" * 254, False, False, id="254 characters are neither"),
        pytest.param("", False, False, id="empty text"),
        pytest.param("A", False, False, id="capitals are neither"),
        pytest.param("-a", False, False, id="a leading dash is neither"),
        pytest.param("a-", False, False, id="a trailing dash is neither"),
        pytest.param("a..b", False, False, id="an empty label is neither"),
        pytest.param("a\n", False, False, id="a newline is neither"),
        pytest.param("ä", False, False, id="a letter outside ASCII is neither"),
    ],
)
def test_recognizes_dns_labels_and_subdomains(text: str, label: bool, subdomain: bool) -> None:
    assert (is_dns_label(text), is_dns_subdomain(text)) == (label, subdomain)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("k8s", id="no slash"),
        pytest.param("a/b/c", id="two slashes"),
        pytest.param("/k8s", id="no namespace"),
        pytest.param("a/", id="no name"),
        pytest.param("a.b/k8s", id="a dot in the namespace"),
        pytest.param("a/k8s\r\n", id="control characters"),
    ],
)
def test_parse_refuses_other_forms(text: str) -> None:
    with pytest.raises(ParseError, match="NAMESPACE/NAME"):
        ObjectKey.parse(text)


@given(LABELS, LABELS)
def test_every_key_parses_from_its_own_text(namespace: str, name: str) -> None:
    key = ObjectKey(namespace, name)
    assert ObjectKey.parse(str(key)) == key


@given(st.text())
def test_parsing_any_text_raises_only_parse_errors(text: str) -> None:
    try:
        key = ObjectKey.parse(text)
    except ParseError:
        return
    assert str(key) == text
