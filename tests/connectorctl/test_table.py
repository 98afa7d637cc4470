"""Tables."""

import click
import pytest

from connectorctl.table import MIN_LAST_COLUMN, render_table

HEAD = ("NAME", "STATE", "MESSAGE")
LONG = "this is a message that says at some length what is to be mended"
ROWS = [("a", "yes", ""), ("long-name", "no", LONG)]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert render_table(HEAD, ROWS).splitlines() == [
        "NAME        STATE   MESSAGE",
        "a           yes",
        f"long-name   no      {LONG}",
    ]


def test_the_last_column_is_wrapped_between_words() -> None:
    lines = render_table(HEAD, ROWS, width=20 + MIN_LAST_COLUMN).splitlines()
    assert lines[2:] == [
        "long-name   no      this is a message that",
        "                    says at some length what",
        "                    is to be mended",
    ]
    assert max(map(len, lines)) <= 20 + MIN_LAST_COLUMN


def test_a_narrow_terminal_is_not_wrapped() -> None:
    assert render_table(HEAD, ROWS, width=30) == render_table(HEAD, ROWS)


@pytest.mark.parametrize("colours", [{"yes": "green", "no": "red"}])
def test_colours_do_not_move_columns(colours: dict[str, str]) -> None:
    coloured = render_table(HEAD, ROWS, colours=colours)
    assert "\x1b[32myes\x1b[0m" in coloured
    assert click.unstyle(coloured) == render_table(HEAD, ROWS)


def test_a_table_without_rows_has_its_heading() -> None:
    assert render_table(HEAD, []) == "NAME   STATE   MESSAGE\n"


def test_a_cell_has_printable_characters_only() -> None:
    assert render_table(HEAD, [("a\x1b]0;t\x07", "\u202eno", "b\nc")]).splitlines()[1:] == ["a?]0;t?   ?no     b?c"]
