"""Placeholders in examples."""

import pytest

from connector_store.domain.credential.placeholder import is_example_host, is_placeholder


@pytest.mark.parametrize(
    "token",
    ["REPLACE-WITH-A-TOKEN", "eyJ...", "eyJ…", "<token>", "{{ .Values.token }}", "${TOKEN}", "$TOKEN", "changeme",
     "change-me", "your-token-here", "xxxxxxxx", "token", "TODO", "example-token"],
)  # fmt: skip
def test_a_placeholder_is_recognized(token: str) -> None:
    assert is_placeholder(token)


@pytest.mark.parametrize(
    "token",
    ["eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "abc123.0123456789abcdef", "sha256~Zm9v", "s3cret", "a$1b",
     "replace" + "x" * 200],
)  # fmt: skip
def test_a_possible_token_is_not_a_placeholder(token: str) -> None:
    assert not is_placeholder(token)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("k8s.example", True), ("example.com", True), ("api.example.org", True), ("x.invalid", True),
     ("192.0.2.1", True), ("2001:db8::1", True), ("myexample.com", False), ("192.168.1.100", False),
     ("10.0.0.1", False), ("fd00::1", False), ("k8s.corp", False), ("kind.test", False)],
)  # fmt: skip
def test_example_hosts_are_recognized(host: str, expected: bool) -> None:
    assert is_example_host(host) == expected
