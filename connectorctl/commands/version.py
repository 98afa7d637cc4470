"""`connectorctl version`: the same as --version, as kubectl has it."""

import click

from connector_store.version import VERSION
from connectorctl.command import PROGRAM
from connectorctl.command import command as make


@make("version", examples=("connectorctl version",))
def command() -> None:
    """Print the version."""
    click.echo(f"{PROGRAM} {VERSION}")
