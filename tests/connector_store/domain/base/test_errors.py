"""The error for input that cannot be parsed."""

import pytest

from connector_store.domain.base.errors import ParseError, parse_errors_at


def test_text_has_the_field_and_the_reason() -> None:
    error = ParseError("spec.address", "has no host; write https://HOST")
    assert str(error) == "spec.address: has no host; write https://HOST"
    assert (error.path, error.reason) == ("spec.address", "has no host; write https://HOST")


def test_text_is_only_the_reason_if_the_error_is_about_the_whole_input() -> None:
    assert str(ParseError("", "not a mapping")) == "not a mapping"


def test_a_block_gives_its_errors_a_field() -> None:
    with pytest.raises(ParseError) as caught, parse_errors_at("spec.address"):
        raise ParseError("", "has no host")
    assert str(caught.value) == "spec.address: has no host"


def test_a_block_changes_no_other_error() -> None:
    with pytest.raises(OSError, match="gone"), parse_errors_at("spec.address"):
        raise OSError("gone")
