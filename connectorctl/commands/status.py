"""`connectorctl status`: what a proxy would serve."""

import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Final

import click

from connector_store.domain.base import rfc3339
from connector_store.domain.base.expiry import format_relative_time
from connectorctl.access import load
from connectorctl.command import command as make
from connectorctl.options import Where, format_option, source_options
from connectorctl.output import say, write, write_value
from connectorctl.seen import Row, Seen, rows
from connectorctl.settings import own_settings
from connectorctl.situation import Situation
from connectorctl.table import render_table

PERIOD: Final = 5.0
"""Seconds between two looks of --watch."""
_COLOURS: Final = {"yes": "green", "no": "red", "True": "green", "False": "red", "Unknown": "yellow"}


@make(
    "status",
    examples=(
        "connectorctl status",
        "connectorctl status --source kubernetes -n team-a -o wide",
        "connectorctl status -w",
    ),
)
@click.option("-n", "--namespace", help="Default: all.")
@click.option("-w", "--watch", is_flag=True, help="Stay, and print what changes.")
@format_option("wide", "json", "yaml")
@source_options
@click.pass_obj
def command(situation: Situation, where: Where, namespace: str | None, watch: bool, form: str | None) -> None:
    """Show what a proxy would serve, and why something is not usable.

    USABLE is what a proxy makes of a Connector, READY what the controller of a cluster last found out about its target,
    EXPIRES when the credential in its Secret ends, where it says so.
    """
    if watch and form in ("json", "yaml"):
        raise click.UsageError("--watch is for tables; leave -o out, or write -o wide")
    settings = own_settings()
    seen = load(where, settings, situation, namespace=namespace)
    found = rows(seen, namespace)
    if form in ("json", "yaml"):
        write_value({"items": [_value(each) for each in found]}, form)
        return
    if not found:
        say("No resources found" + (f" in {namespace} namespace." if namespace else ""))
    else:
        write(_table(seen, found, wide=form == "wide"))
    while watch:
        time.sleep(PERIOD)
        seen = load(where, settings, situation, namespace=namespace)
        before, found = found, rows(seen, namespace)
        if changed := [each for each in found if each not in before]:
            write(_table(seen, changed, wide=form == "wide"))


def _table(seen: Seen, found: list[Row], *, wide: bool) -> str:
    ready = seen.ready is not None
    head = ("CONNECTOR", "ADDRESS", "USABLE", *(("READY",) if ready else ()), "EXPIRES", "REASON", "MESSAGE")
    # Where stdout is closed there is none.
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = None if wide or not terminal else shutil.get_terminal_size().columns
    return render_table(head, [_cells(each, ready=ready) for each in found], width=width, colours=_COLOURS)


def _cells(row: Row, *, ready: bool) -> tuple[str, ...]:
    opinion = (row.ready or "",) if ready else ()
    usable = "yes" if row.usable else "no"
    expires = format_relative_time(row.expires - time.time()) if row.expires is not None else ""
    return str(row.connector), row.address or "<invalid>", usable, *opinion, expires, row.reason, row.message


def _value(row: Row) -> dict[str, object]:
    return {
        "namespace": row.connector.namespace,
        "name": row.connector.name,
        "address": row.address,
        "usable": row.usable,
        "ready": row.ready,
        "expires": rfc3339.format_time(datetime.fromtimestamp(row.expires, UTC)) if row.expires is not None else None,
        "reason": row.reason,
        "message": row.message,
    }
