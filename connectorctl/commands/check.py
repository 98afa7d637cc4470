"""`connectorctl check`: what of a folder cannot work."""

from pathlib import Path

import click

from connector_store.domain.source import DEFAULT_FOLDER
from connectorctl.command import command as make
from connectorctl.output import say, write
from connectorctl.settings import own_settings


@make("check", examples=("connectorctl check", "connectorctl check ./team-a"))
@click.argument("folder", metavar="[DIR]", default=DEFAULT_FOLDER, type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, folder: Path) -> None:
    """Name every problem of a folder of manifests, with file and line.

    Exit code 1 if one must be mended.
    """
    from connectorctl.check import check_folder

    text, fatal, summary = check_folder(folder, own_settings())
    write(text)
    say(summary)
    ctx.exit(1 if fatal else 0)
