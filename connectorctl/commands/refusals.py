"""Command `refusals`: show the last refusals of the proxies."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from connectorctl.command import make_command
from connectorctl.commands.sessions import notes, proxy_documents, render_cells
from connectorctl.invocation import Invocation
from connectorctl.option_values import Selection, SourceOptions
from connectorctl.options import (
    add_format_option,
    add_selection,
    add_source_options,
    confdir_option,
    make_since_option,
)
from connectorctl.output import print_message, write, write_value
from connectorctl.proxy_sessions import ProxyAnswer, open_proxies
from connectorctl.recent_refusals import REFUSAL_HEADER, join_refusals, refusal_cells


@make_command(
    "refusals",
    examples=(
        "connectorctl refusals",
        "connectorctl refusals team-a/prod --since 1m",
        "connectorctl refusals --source kubernetes -n team-a",
        "connectorctl refusals -o json",
    ),
)
@make_since_option("Show the refusals of this time. Default: all that the proxies keep.")
@add_format_option("wide", "json", "yaml")
@confdir_option
@add_selection
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation,
    source_options: SourceOptions,
    selection: Selection,
    since: float | None,
    form: str | None,
    confdir: Path | None,
) -> int:
    """Show what the proxies refused last, with the sentence that the client got.

    Each proxy keeps the last 100 refusals of callers, and the last 100 of clients that are not authenticated.
    """

    async def read() -> Sequence[ProxyAnswer]:
        async with open_proxies(source_options, invocation, confdir) as proxies:
            return await proxies.read("/refusals")

    answers = asyncio.run(read())
    rows = join_refusals(answers, selection, since)
    if form in ("json", "yaml"):
        write_value({"proxies": proxy_documents(answers), "items": rows}, form)
    elif rows:
        write(render_cells(REFUSAL_HEADER, [refusal_cells(row) for row in rows], wide=form == "wide"))
    elif any(answer.has_answered for answer in answers):
        print_message("No refusals")
    for note in notes(answers):
        print_message(note)
    return 0 if any(answer.has_answered for answer in answers) else 1
