"""The error for input that cannot be parsed."""

from connector_store.domain.base.errors import ParseError


def test_text_has_the_field_and_the_reason() -> None:
    error = ParseError("spec.address", "has no host; write https://HOST")
    assert str(error) == "spec.address: has no host; write https://HOST"
    assert (error.path, error.reason) == ("spec.address", "has no host; write https://HOST")


def test_text_is_only_the_reason_if_the_error_is_about_the_whole_input() -> None:
    assert str(ParseError("", "not a mapping")) == "not a mapping"
