"""The manual page: each command with its options and examples, and escaped troff characters."""

import re

import pytest

from connector_store.version import VERSION
from connectorctl.cli import COMMANDS
from connectorctl.man import escape_roff
from tests.connectorctl.cli_result import RunCli

MACROS = {"TH", "SH", "SS", "TP", "PP", "B", "nf", "fi"}


@pytest.fixture
def page(run_cli: RunCli) -> str:
    result = run_cli("help --man")
    assert (result.code, result.err) == (0, "")
    return result.out


def test_the_page_has_this_version(page: str) -> None:
    assert page.startswith(f'.TH CONNECTORCTL 1 "" "connectorctl {VERSION}"\n.SH NAME\nconnectorctl \\- ')
    assert re.findall(r"^\.SH (.*)$", page, re.MULTILINE) == ["NAME", "SYNOPSIS", "COMMANDS", "EXIT STATUS"]


def test_every_command_has_its_options_and_examples(page: str) -> None:
    headings = re.findall(r'^\.SS "connectorctl ([a-z\\-]+)', page, re.MULTILINE)
    assert [each.replace("\\", "") for each in headings] == list(COMMANDS)
    assert ".B \\-\\-merge\n" in page
    assert "connectorctl kubeconfig team\\-a/k8s" in page


def test_only_macros_begin_with_a_dot(page: str) -> None:
    macros = {line[1:].split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert macros <= MACROS


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\\b", "a\\eb"),
        (".env", "\\&.env"),
        ("'quoted'", "\\&'quoted'"),
        ('say "so"', "say \\(dqso\\(dq"),
        ("--exec", "\\-\\-exec"),
    ],
)
def test_troff_characters_are_escaped(text: str, escaped: str) -> None:
    assert escape_roff(text) == escaped
