"""The domain's one exception."""

from connector_store.domain.base.errors import ParseError


def test_names_the_field_and_what_to_write() -> None:
    error = ParseError("spec.address", "has no host; write https://HOST")
    assert str(error) == "spec.address: has no host; write https://HOST"
    assert (error.path, error.reason) == ("spec.address", "has no host; write https://HOST")


def test_says_only_the_reason_where_the_whole_input_is_wrong() -> None:
    assert str(ParseError("", "not a mapping")) == "not a mapping"
