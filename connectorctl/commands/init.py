"""Command `init`: write an example Connector into a folder."""

from pathlib import Path

import click

from connector_store.domain.config.connector_source import DEFAULT_FOLDER
from connectorctl.command import make_command
from connectorctl.output import print_message


@make_command("init", examples=("connectorctl init", "connectorctl init ./team-a"))
@click.argument("folder", metavar="[DIR]", default=DEFAULT_FOLDER, type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Write an example Connector and its Secret into a folder.

    DIR is ./connectors by default; it and the file are readable to you only. A file that is there is never overwritten.
    """
    from connectorctl.example import write_example

    try:
        path = write_example(folder)
    except FileExistsError as error:
        raise click.ClickException(f"{error.filename} is there already; edit it, or name another folder") from error
    print_message(f"wrote {path}; put in address and token, then run: connectorctl check {folder}")
