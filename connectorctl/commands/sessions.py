"""Command `sessions`: show who is connected."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.live_table import draw_until_interrupted, is_terminal
from connectorctl.option_values import Selection, SourceOptions
from connectorctl.options import (
    add_format_option,
    add_selection,
    add_source_options,
    confdir_option,
    make_since_option,
)
from connectorctl.output import print_message, write, write_value
from connectorctl.proxy_sessions import Item, Proxies, ProxyAnswer, format_age, number, open_proxies, text
from connectorctl.recent_callers import CALLER_HEADER, MAX_SECONDS, caller_cells, caller_notes, join_callers
from connectorctl.recent_refusals import REFUSAL_HEADER, join_refusals, refusal_cells
from connectorctl.table import render_table

SORT_KEYS: Final[Mapping[str, Callable[[Item], Any]]] = {
    "age": lambda row: number(row, "since"),
    "bytes": lambda row: -number(row, "bytesIn") - number(row, "bytesOut"),
    "caller": lambda row: (text(row, "caller"), number(row, "since")),
}
MAX_CELL: Final = 60
"""Maximum characters of a cell, unless -o wide."""
_UNITS: Final = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


@make_command(
    "sessions",
    examples=(
        "connectorctl sessions",
        "connectorctl sessions -w",
        "connectorctl sessions team-a/prod --since 1m",
        "connectorctl sessions --source kubernetes -n team-a -o wide",
        "connectorctl sessions -o json",
    ),
)
@click.option("-w", "--watch", is_flag=True, help="Keep running, and draw the table again when it changes.")
@click.option(
    "--sort", type=click.Choice(tuple(SORT_KEYS)), default="age", show_default=True, help="Order of the rows."
)
@make_since_option("Show who used a Connector in this time, at most 15m, and what was refused.")
@add_format_option("wide", "json", "yaml")
@confdir_option
@add_selection
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation,
    source_options: SourceOptions,
    selection: Selection,
    watch: bool,
    sort: str,
    since: float | None,
    form: str | None,
    confdir: Path | None,
) -> int:
    """Show the live connections of all proxies: who is connected, to what, and since when.

    With --since, show who used a Connector in that time, also if the requests have ended, and below what was refused.

    In a cluster, it asks each proxy by port-forward, so you need the right to create pods/portforward. With a folder,
    it asks the proxies on this machine with that --confdir.
    """
    if watch and form in ("json", "yaml"):
        raise click.UsageError("--watch is for tables; leave -o out, or write -o wide")
    if since is not None and (watch or since > MAX_SECONDS):
        raise click.UsageError("--since is for at most 15m, and not for --watch; proxies forget callers after 15m")

    async def show() -> int:
        async with open_proxies(source_options, invocation, confdir) as proxies:
            if watch:
                await draw_until_interrupted(lambda: _render(proxies, selection, sort, wide=form == "wide"))
            if since is not None:
                return await _show_recent(proxies, selection, since, form)
            return await _show_once(proxies, selection, sort, form)

    return asyncio.run(show())


async def _show_once(proxies: Proxies, selection: Selection, sort: str, form: str | None) -> int:
    answers = await proxies.read("/sessions")
    rows = join_rows(answers, selection)
    rows.sort(key=SORT_KEYS[sort])
    if form in ("json", "yaml"):
        write_value({"proxies": proxy_documents(answers), "items": rows}, form)
    elif rows:
        write(_render_rows(rows, wide=form == "wide"))
    elif any(answer.has_answered for answer in answers):
        print_message("No live connections")
    for note in notes(answers):
        print_message(note)
    return 0 if any(answer.has_answered for answer in answers) else 1


async def _show_recent(proxies: Proxies, selection: Selection, since: float, form: str | None) -> int:
    answers, refusal_answers = await proxies.read("/connectors"), await proxies.read("/refusals")
    callers = join_callers(answers, selection, since)
    refusals = join_refusals(refusal_answers, selection, since)
    has_answer = any(answer.has_answered for answer in answers)
    if form in ("json", "yaml"):
        write_value({"proxies": proxy_documents(answers), "items": callers, "refusals": refusals}, form)
    else:
        tables = (
            (CALLER_HEADER, [caller_cells(row) for row in callers], "No callers in this time"),
            (REFUSAL_HEADER, [refusal_cells(row) for row in refusals], "No refusals in this time"),
        )
        if callers or refusals:
            write("\n".join(render_cells(header, rows, wide=form == "wide") for header, rows, _ in tables if rows))
        for message in (message for _, rows, message in tables if has_answer and not rows):
            print_message(message)
    for note in dict.fromkeys((*notes(answers), *notes(refusal_answers), *caller_notes(answers))):
        print_message(note)
    return 0 if has_answer else 1


async def _render(proxies: Proxies, selection: Selection, sort: str, *, wide: bool) -> tuple[str, Sequence[str]]:
    answers = await proxies.read("/sessions")
    rows = join_rows(answers, selection)
    rows.sort(key=SORT_KEYS[sort])
    return _render_rows(rows, wide=wide) if rows else "No live connections\n", list(notes(answers))


def join_rows(answers: Sequence[ProxyAnswer], selection: Selection) -> list[dict[str, Any]]:
    """Return the items of all proxies, each with the name of its proxy."""
    return [
        {"proxy": answer.proxy, **item}
        for answer in answers
        for item in answer.items
        if selection.includes(text(item, "connector"))
    ]


def notes(answers: Sequence[ProxyAnswer]) -> Iterator[str]:
    """Yield a line for each proxy with a problem."""
    for answer in answers:
        if answer.problem:
            yield f"warning: proxy {answer.proxy} {answer.problem}"


def proxy_documents(answers: Sequence[ProxyAnswer]) -> list[dict[str, object]]:
    return [
        {"name": answer.proxy, "version": answer.version, "total": answer.total, "problem": answer.problem}
        for answer in answers
    ]


def format_bytes(size: float) -> str:
    """Format a number of bytes.

    >>> format_bytes(900), format_bytes(2048), format_bytes(3 << 20)
    ('900 B', '2 kB', '3 MB')
    """
    return next((f"{size / unit:.3g} {name}" for unit, name in _UNITS if size >= unit), f"{int(size)} B")


def render_cells(header: Sequence[str], rows: Sequence[Sequence[str]], *, wide: bool) -> str:
    """Render a table. Without `wide`, cells but the last are bounded, and the last is wrapped on a terminal."""
    if not wide:
        rows = [[*(cell if len(cell) <= MAX_CELL else cell[: MAX_CELL - 3] + "..." for cell in row)] for row in rows]
    width = None if wide or not is_terminal() else shutil.get_terminal_size().columns
    return render_table(header, rows, width=width)


def _render_rows(rows: Sequence[Item], *, wide: bool) -> str:
    more = ("SOURCE", "ROLE", "REQUEST", "PROXY", "ID") if wide else ()
    header = ("AGE", "KIND", "CALLER", "CONNECTOR", "OBJECT", "WHAT", "BYTES", *more)
    return render_cells(header, [_cells(row, wide=wide) for row in rows], wide=wide)


def _cells(row: Item, *, wide: bool) -> tuple[str, ...]:
    name = "/".join(part for part in (text(row, "namespace"), text(row, "name")) if part)
    what = text(row, "command") or f"{text(row, 'verb')} {text(row, 'resource')}".strip()
    more = ("sourceIP", "role", "accessRequest", "proxy", "id") if wide else ()
    return (
        format_age(time.time() - number(row, "since")),
        text(row, "kind"),
        text(row, "caller"),
        text(row, "connector"),
        name,
        what,
        format_bytes(number(row, "bytesIn") + number(row, "bytesOut")),
        *(text(row, each) for each in more),
    )
