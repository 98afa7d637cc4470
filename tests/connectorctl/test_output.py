"""Documents to stdout, messages to stderr."""

import json
import sys

import pytest
import yaml

from connectorctl.output import print_error, print_message, print_server_error, write, write_value

VALUE = {"b": ["1", 2, None], "a": {"ü": True}}


def test_documents_and_messages_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    write("document")
    print_message("message")
    print_error("reason")
    print_server_error("Forbidden", "you may not")
    expected = "message\nerror: reason\nError from server (Forbidden): you may not\n"
    assert capsys.readouterr() == ("document", expected)


def test_a_stdout_that_was_closed_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="is closed: 'stdout'"):
        write("document")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        pytest.param("Unauthorized", "renew it, or name another kubeconfig", id="a credential that has ended"),
        pytest.param("Gone", "Error from server (Gone): Gone\n", id="a reason without a next step"),
    ],
)
def test_a_refusal_without_words_says_what_to_do(reason: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_server_error(reason, reason)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_value_is_printed_in_its_order(form: str, read: object, capsys: pytest.CaptureFixture[str]) -> None:
    write_value(VALUE, form)
    out = capsys.readouterr().out
    assert callable(read)
    assert read(out) == VALUE
    assert out.index("b") < out.index("ü")
    assert out.endswith("\n")
