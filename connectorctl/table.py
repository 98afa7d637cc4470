"""Tables in kubectl's format. On a narrow terminal, the last column is wrapped between words."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

from connector_store.domain.base.printable import printable

_GAP: Final = 3
STATUS_COLOURS: Final = {
    "yes": "green", "no": "red", "True": "green", "False": "red", "Unknown": "yellow", "all": "yellow",
}  # fmt: skip
"""Colours of the words that say whether a Connector works, and what it allows."""
MIN_LAST_COLUMN: Final = 24
"""Minimum width of the last column. If the terminal has less, the column is not wrapped."""


def render_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> str:
    """Render a table. `width` is the terminal's (None: do not wrap). `colours` maps the text of a cell to a colour."""
    all_rows = [header, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in all_rows) + _GAP for column in range(len(header) - 1)]
    last_width = None if width is None else width - sum(widths)
    return "".join(line for row in all_rows for line in _row_lines(row, widths, last_width, colours or {}))


def style_cell(cell: str, colours: Mapping[str, str]) -> str:
    """Return the text of a cell in its colour, if it has one. `output.write` removes colours from files and pipes."""
    return click.style(cell, fg=colours[cell]) if cell in colours else cell


def _row_lines(
    row: Sequence[str], widths: list[int], last_width: int | None, colours: Mapping[str, str]
) -> Iterator[str]:
    wrapped = (
        textwrap.wrap(row[-1], last_width) if last_width is not None and last_width >= MIN_LAST_COLUMN else [row[-1]]
    )
    first, *continuations = wrapped or [""]
    cells = "".join(
        style_cell(cell, colours) + " " * (width - len(cell)) for cell, width in zip(row, widths, strict=False)
    )
    yield f"{cells}{first}".rstrip() + "\n"
    for continuation in continuations:
        yield " " * sum(widths) + continuation + "\n"
