"""Command `requests`: list access requests."""

import time
from dataclasses import asdict
from typing import Final

import click

from connectorctl.access_cluster import load_rows, run_in_cluster
from connectorctl.access_params import NAMESPACE_PARAM
from connectorctl.access_rows import RequestRow
from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import add_access_source_options, add_format_option
from connectorctl.output import print_message, write, write_value
from connectorctl.table import render_table

WATCH_INTERVAL: Final = 5.0
"""Seconds between two updates of --watch."""
_HEADER: Final = ("REQUEST", "SUBJECT", "CONNECTOR", "FOR", "STATE", "UNTIL", "APPROVED BY", "REASON")


@make_command("requests", examples=("connectorctl requests", "connectorctl requests -n team-a --watch"))
@click.option("-n", "--namespace", type=NAMESPACE_PARAM, help="Namespace to show. Default: all.")
@click.option("-w", "--watch", is_flag=True, help="Keep running, and print changes.")
@add_format_option("json", "yaml")
@add_access_source_options
@click.pass_obj
def command(
    invocation: Invocation, source_options: SourceOptions, namespace: str | None, watch: bool, form: str | None
) -> None:
    """List access requests: who asks for which Connector, for how long, and why.

    STATE follows from the approvals. UNTIL is the end of the access.
    """
    if watch and form is not None:
        raise click.UsageError("--watch is for tables; leave -o out")
    rows = _load_rows(source_options, invocation, namespace)
    if form is not None:
        write_value({"items": [asdict(row) for row in rows]}, form)
        return
    if rows:
        write(_render(rows))
    else:
        print_message("No resources found" + (f" in {namespace} namespace." if namespace else ""))
    while watch:
        time.sleep(WATCH_INTERVAL)
        previous_rows, rows = rows, _load_rows(source_options, invocation, namespace)
        if changed_rows := [row for row in rows if row not in previous_rows]:
            write(_render(changed_rows))


def _load_rows(source_options: SourceOptions, invocation: Invocation, namespace: str | None) -> list[RequestRow]:
    return run_in_cluster(source_options, invocation, lambda client: load_rows(client, namespace))


def _render(rows: list[RequestRow]) -> str:
    cells = [
        (
            str(row.key),
            row.subject,
            row.connector,
            row.duration,
            row.state,
            row.until,
            ",".join(row.approved_by),
            row.reason,
        )
        for row in rows
    ]
    return render_table(_HEADER, cells)
