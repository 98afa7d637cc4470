"""Command `status`: show the Connectors that a proxy would serve."""

import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Final

import click

from connector_store.domain.base import rfc3339
from connector_store.domain.base.expiry import format_relative_time
from connectorctl.command import make_command
from connectorctl.inventory import Inventory, Row, build_rows
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import add_format_option, add_source_options
from connectorctl.output import print_message, write, write_value
from connectorctl.source_dispatch import load_inventory
from connectorctl.table import render_table

WATCH_INTERVAL: Final = 5.0
"""Seconds between two updates of --watch."""
_COLOURS: Final = {"yes": "green", "no": "red", "True": "green", "False": "red", "Unknown": "yellow"}


@make_command(
    "status",
    examples=(
        "connectorctl status",
        "connectorctl status --source kubernetes -n team-a -o wide",
        "connectorctl status -w",
    ),
)
@click.option("-n", "--namespace", help="Namespace to show. Default: all.")
@click.option("-w", "--watch", is_flag=True, help="Keep running, and print changes.")
@add_format_option("wide", "json", "yaml")
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation, source_options: SourceOptions, namespace: str | None, watch: bool, form: str | None
) -> None:
    """Show what a proxy would serve, and why something is not usable.

    USABLE says whether a proxy serves the Connector. READY is the last result of the cluster's controller. EXPIRES is
    the expiry of the credential in the Secret, if it has one.
    """
    if watch and form in ("json", "yaml"):
        raise click.UsageError("--watch is for tables; leave -o out, or write -o wide")
    inventory = load_inventory(source_options, invocation, namespace=namespace)
    rows = build_rows(inventory, namespace)
    if form in ("json", "yaml"):
        write_value({"items": [_row_document(row) for row in rows]}, form)
        return
    if not rows:
        print_message("No resources found" + (f" in {namespace} namespace." if namespace else ""))
    else:
        write(_render_rows(inventory, rows, wide=form == "wide"))
    while watch:
        time.sleep(WATCH_INTERVAL)
        inventory = load_inventory(source_options, invocation, namespace=namespace)
        previous_rows, rows = rows, build_rows(inventory, namespace)
        if changed_rows := [row for row in rows if row not in previous_rows]:
            write(_render_rows(inventory, changed_rows, wide=form == "wide"))


def _render_rows(inventory: Inventory, rows: list[Row], *, wide: bool) -> str:
    ready = inventory.ready_conditions is not None
    header = ("CONNECTOR", "ADDRESS", "USABLE", *(("READY",) if ready else ()), "EXPIRES", "REASON", "MESSAGE")
    # sys.stdout is None if it was closed at start.
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = None if wide or not terminal else shutil.get_terminal_size().columns
    return render_table(header, [_cells(row, ready=ready) for row in rows], width=width, colours=_COLOURS)


def _cells(row: Row, *, ready: bool) -> tuple[str, ...]:
    ready_cell = (row.ready or "",) if ready else ()
    usable = "yes" if row.usable else "no"
    expires = format_relative_time(row.expires - time.time()) if row.expires is not None else ""
    return str(row.connector), row.address or "<invalid>", usable, *ready_cell, expires, row.reason, row.message


def _row_document(row: Row) -> dict[str, object]:
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
