"""Documents to stdout, messages to stderr."""

import json
import sys

import pytest
import yaml

from connectorctl.output import print_error, print_message, print_server_error, write, write_value

VALUE = {"b": ["1", 2, None], "a": {"ü": True}}


def test_documents_go_to_stdout_and_messages_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    write("document")
    print_message("message")
    print_error("reason")
    print_server_error("Forbidden", "you may not")
    expected = "message\nerror: reason\nError from server (Forbidden): you may not\n"
    assert capsys.readouterr() == ("document", expected)


def test_a_closed_stdout_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="is closed: 'stdout'"):
        write("document")


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        pytest.param("Unauthorized", "renew it, or name another kubeconfig", id="an expired credential"),
        pytest.param("Gone", "Error from server (Gone): Gone\n", id="a reason without a next step"),
    ],
)
def test_a_refusal_without_a_message_has_a_hint(reason: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_server_error(reason, reason)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_value_is_printed_in_order(form: str, load: object, capsys: pytest.CaptureFixture[str]) -> None:
    write_value(VALUE, form)
    out = capsys.readouterr().out
    assert callable(load)
    assert load(out) == VALUE
    assert out.index("b") < out.index("ü")
    assert out.endswith("\n")


def test_messages_have_printable_characters_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_message("role \x1b]0;t\x07\u202e\nb")
    print_error("role \x9b\nb")
    assert capsys.readouterr().err == "role ?]0;t???b\nerror: role ??b\n"


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_document_escapes_what_is_not_printable(form: str, load: object, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"reason": "a\x1b\x9b\u202e\nb ü"}
    write_value(value, form)
    out = capsys.readouterr().out
    assert callable(load)
    assert load(out) == value
    assert out.replace("\n", "").isprintable()
