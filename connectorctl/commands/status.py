"""`connectorctl status`: what a proxy would serve."""

import click

from connectorctl.access import load
from connectorctl.command import command as make
from connectorctl.options import Where, source_options
from connectorctl.output import write
from connectorctl.settings import own_settings
from connectorctl.situation import Situation
from connectorctl.table import render_status


@make("status", examples=("connectorctl status", "connectorctl status --source kubernetes -n team-a"))
@click.option("-n", "--namespace", help="Default: all.")
@source_options
@click.pass_obj
def command(situation: Situation, where: Where, namespace: str | None) -> None:
    """Show what a proxy would serve, and why something is not usable."""
    store = load(where, own_settings(), situation, namespace=namespace)
    write(render_status(store, namespace))
