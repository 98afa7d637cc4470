"""Help with examples."""

import click
import pytest
from click.testing import CliRunner

from connectorctl.command import make_command


@make_command("do", examples=("connectorctl do it", "connectorctl do it | cat"))
def do() -> None:
    """Do something that needs a line of help which is longer than the list of commands would leave it.

    More.
    """


@make_command("bare", examples=())
def bare() -> None:
    """Do nothing."""


GROUP = click.Group("top", commands={"do": do, "bare": bare})


@pytest.mark.parametrize("program", ["connectorctl", "kubectl connector"])
def test_examples_show_the_name_that_was_typed(program: str) -> None:
    output = CliRunner().invoke(GROUP, ["do", "--help"], prog_name=program).output
    assert output.endswith(f"Examples:\n  {program} do it\n  {program} do it | cat\n")


def test_a_command_without_examples_has_no_heading() -> None:
    assert "Examples" not in CliRunner().invoke(GROUP, ["bare", "--help"]).output


def test_the_first_line_of_help_is_not_shortened() -> None:
    output = " ".join(CliRunner().invoke(GROUP, ["--help"]).output.split())
    assert "which is longer than the list of commands would leave it." in output
