"""Command `status`: show the Connectors that a proxy would serve."""

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from connector_store.domain.base.expiry import format_relative_time
from connectorctl.command import make_command
from connectorctl.inventory import Inventory, Row, build_rows, row_document
from connectorctl.invocation import Invocation
from connectorctl.live_table import is_terminal
from connectorctl.lock_rows import LOCK_HEADER, describe_locks, lock_cells
from connectorctl.option_values import SourceOptions
from connectorctl.options import add_folder_argument, add_format_option, add_source_options
from connectorctl.output import print_message, write, write_value
from connectorctl.source_dispatch import load_inventory
from connectorctl.table import STATUS_COLOURS, render_table

WATCH_INTERVAL: Final = 5.0
"""Seconds between two updates of --watch."""


@make_command(
    "status",
    examples=(
        "connectorctl status",
        "connectorctl status ./team-a",
        "connectorctl status --source kubernetes -n team-a -o wide",
        "connectorctl status -w",
    ),
)
@click.option("-n", "--namespace", help="Namespace to show. Default: all.")
@click.option("-w", "--watch", is_flag=True, help="Keep running, and print changes.")
@add_format_option("wide", "json", "yaml")
@add_folder_argument
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation, source_options: SourceOptions, namespace: str | None, watch: bool, form: str | None
) -> None:
    """Show the Connectors: whether a proxy would serve each of them, and why not.

    USABLE says whether a proxy serves the Connector. READY is the last result of the cluster's controller. ALLOWS says
    what its permissions allow: all that the credential can do, all but denied, or roles only. EXPIRES is the expiry of
    the credential in the Secret, if it has one. -o wide adds IMPERSONATES. A second table has the locks in force.
    """
    if watch and form in ("json", "yaml"):
        raise click.UsageError("--watch is for tables; leave -o out, or write -o wide")
    inventory = load_inventory(source_options, invocation, namespace=namespace)
    rows = build_rows(inventory, namespace)
    locks = describe_locks(inventory.store, namespace)
    if form in ("json", "yaml"):
        write_value({"items": [row_document(row) for row in rows], **({"locks": locks} if locks else {})}, form)
        return
    if not rows:
        print_message("No resources found" + (f" in {namespace} namespace." if namespace else ""))
    else:
        write(_render_rows(inventory, rows, wide=form == "wide"))
    if locks:
        write("\n" * bool(rows) + _render_locks(locks, wide=form == "wide"))
    while watch:
        time.sleep(WATCH_INTERVAL)
        inventory = load_inventory(source_options, invocation, namespace=namespace)
        previous_rows, rows = rows, build_rows(inventory, namespace)
        if changed_rows := [row for row in rows if row not in previous_rows]:
            write(_render_rows(inventory, changed_rows, wide=form == "wide"))
        previous_locks, locks = locks, describe_locks(inventory.store, namespace)
        if locks != previous_locks:
            write(_render_locks(locks, wide=form == "wide"))


def _render_rows(inventory: Inventory, rows: list[Row], *, wide: bool) -> str:
    ready = inventory.ready_conditions is not None
    header = (
        *("CONNECTOR", "ADDRESS", "USABLE", *(("READY",) if ready else ()), "AUTH", "ALLOWS"),
        *(*(("IMPERSONATES",) if wide else ()), "EXPIRES", "REASON", "MESSAGE"),
    )
    cells = [_cells(row, ready=ready, wide=wide) for row in rows]
    return render_table(header, cells, width=_width(wide=wide), colours=STATUS_COLOURS)


def _render_locks(locks: Sequence[Mapping[str, Any]], *, wide: bool) -> str:
    return render_table(LOCK_HEADER, [lock_cells(lock) for lock in locks], width=_width(wide=wide))


def _width(*, wide: bool) -> int | None:
    """Return the width of the terminal, or None if lines are not wrapped."""
    return None if wide or not is_terminal() else shutil.get_terminal_size().columns


def _cells(row: Row, *, ready: bool, wide: bool) -> tuple[str, ...]:
    ready_cell = (row.ready or "",) if ready else ()
    usable = "yes" if row.usable else "no"
    expires = format_relative_time(row.expires - time.time()) if row.expires is not None else ""
    impersonates_cell = ("yes" if row.impersonates else "no",) if wide else ()
    first = str(row.connector), row.address or "<invalid>", usable, *ready_cell, row.auth or "", row.allows
    return *first, *impersonates_cell, expires, row.reason, row.message
