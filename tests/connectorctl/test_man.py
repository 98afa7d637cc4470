"""The manual page: every command with its options and examples, and no word that troff would take for its own."""

import re

import pytest

from connector_store.version import VERSION
from connectorctl.cli import COMMANDS
from connectorctl.man import escape_roff
from tests.connectorctl.typed import Type

MACROS = {"TH", "SH", "SS", "TP", "PP", "B", "nf", "fi"}


@pytest.fixture
def printed(typed: Type) -> str:
    done = typed("help --man")
    assert (done.code, done.err) == (0, "")
    return done.out


def test_it_is_a_page_of_this_version(printed: str) -> None:
    assert printed.startswith(f'.TH CONNECTORCTL 1 "" "connectorctl {VERSION}"\n.SH NAME\nconnectorctl \\- ')
    assert re.findall(r"^\.SH (.*)$", printed, re.MULTILINE) == ["NAME", "SYNOPSIS", "COMMANDS", "EXIT STATUS"]


def test_every_command_is_there_with_its_options_and_examples(printed: str) -> None:
    headings = re.findall(r'^\.SS "connectorctl ([a-z\\-]+)', printed, re.MULTILINE)
    assert [each.replace("\\", "") for each in headings] == list(COMMANDS)
    assert ".B \\-\\-merge\n" in printed
    assert "connectorctl kubeconfig team\\-a/k8s" in printed


def test_only_macros_begin_with_a_dot(printed: str) -> None:
    used = {line[1:].split()[0] for line in printed.splitlines() if line.startswith((".", "'"))}
    assert used <= MACROS


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("a\\b", "a\\eb"),
        (".env", "\\&.env"),
        ("'quoted'", "\\&'quoted'"),
        ('say "so"', "say \\(dqso\\(dq"),
        ("--exec", "\\-\\-exec"),
    ],
)
def test_what_troff_would_read_is_escaped(words: str, written: str) -> None:
    assert escape_roff(words) == written
