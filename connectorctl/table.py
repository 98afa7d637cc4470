"""Tables as kubectl prints them, with the last column wrapped between words where a terminal is too narrow."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

_GAP: Final = 3
NARROWEST: Final = 24
"""Columns of the last cell; where a terminal leaves less, it is not wrapped."""


def render_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> str:
    """Lines of text. `width` is the terminal's, None where nothing is wrapped; `colours` are those of whole cells."""
    every = [head, *rows]
    widths = [max(len(row[column]) for row in every) + _GAP for column in range(len(head) - 1)]
    room = None if width is None else width - sum(widths)
    return "".join(line for row in every for line in _lines(row, widths, room, colours or {}))


def _lines(row: Sequence[str], widths: list[int], room: int | None, colours: Mapping[str, str]) -> Iterator[str]:
    wrapped = textwrap.wrap(row[-1], room) if room is not None and room >= NARROWEST else [row[-1]]
    first, *more = wrapped or [""]
    cells = "".join(
        (click.style(cell, fg=colours[cell]) if cell in colours else cell) + " " * (width - len(cell))
        for cell, width in zip(row, widths, strict=False)
    )
    yield f"{cells}{first}".rstrip() + "\n"
    for each in more:
        yield " " * sum(widths) + each + "\n"
