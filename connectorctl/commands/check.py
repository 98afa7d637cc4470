"""Command `check`: report problems of a folder of manifests."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from connector_store.domain.base.printable import printable
from connector_store.domain.config.connector_source import DEFAULT_FOLDER
from connectorctl.check import Report, check_folder
from connectorctl.command import make_command
from connectorctl.options import add_folder_argument, add_format_option, make_source_option
from connectorctl.output import print_message, write, write_value

_COLOURS: Final = {"error": "red", "warning": "yellow", "info": "cyan"}


@make_command(
    "check", examples=("connectorctl check", "connectorctl check ./team-a --probe", "connectorctl check -o json")
)
@add_folder_argument
@make_source_option(DEFAULT_FOLDER, "Folder, the same as DIR.")
@click.option(
    "--probe", is_flag=True, help="Also connect to each target, verify its certificate, and try the credential."
)
@add_format_option("json", "yaml")
@click.pass_context
def command(ctx: click.Context, source: str, probe: bool, form: str | None) -> None:
    """Validate a folder of manifests, and report each problem with file and line.

    DIR is ./connectors by default, and can also be one file of a folder. The exit code is 1 if something must be
    fixed. Warnings (a credential that expires soon, a file that others can read) leave it 0.
    """
    report = check_folder(Path(source), ctx.obj.settings, now=time.time())
    if probe:
        from connectorctl.probe import probe_targets

        report = report.with_probe_findings(probe_targets(report.targets, ctx.obj.settings))
    if form is not None:
        write_value(_report_document(report), form)
    else:
        for finding in report.findings:
            write(click.style(printable(str(finding)), fg=_COLOURS[finding.severity]) + "\n")
        print_message(report.summary)
    ctx.exit(1 if report.error_count else 0)


def _report_document(report: Report) -> dict[str, object]:
    return {
        "connectors": report.connectors,
        "usable": len(report.targets),
        "findings": [asdict(finding) for finding in report.findings],
    }
