"""Command `describe`: show everything about one Connector."""

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.choice import choose_connector
from connectorctl.command import make_command
from connectorctl.description import build_description, render_description
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import add_connector_arguments, add_format_option, add_source_options
from connectorctl.output import write, write_value
from connectorctl.source_dispatch import load_details


@make_command(
    "describe",
    examples=(
        "connectorctl describe default/k8s-connector",
        "connectorctl describe team-a/prod --source kubernetes",
        "connectorctl describe -o json",
    ),
)
@add_format_option("json", "yaml")
@add_connector_arguments()
@add_source_options
@click.pass_obj
def command(invocation: Invocation, key: ObjectKey | None, source_options: SourceOptions, form: str | None) -> None:
    """Show one Connector: whether it is usable, what it allows, who may use it, and how to get a kubeconfig.

    With a cluster, the command also shows the conditions, the last events, and the subjects of RBAC that may use the
    Connector. It needs the right to list them.
    """
    key = choose_connector(key, source_options, invocation)
    description = build_description(load_details(key, source_options, invocation), key)
    if form is None:
        write(render_description(description))
    else:
        write_value(description, form)
