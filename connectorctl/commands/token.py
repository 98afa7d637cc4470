"""Command `token`: print a caller's token."""

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.options import ConnectorKeyParam, add_caller_options, add_source_options
from connectorctl.output import write
from connectorctl.source_dispatch import issue_token


@make_command(
    "token",
    examples=(
        "connectorctl token default/k8s-connector --ttl 1h",
        "connectorctl token team-a/k8s --service-account ci/pipeline",
    ),
)
@click.argument("key", type=ConnectorKeyParam(), metavar="NAMESPACE/NAME")
@add_caller_options
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation, key: ObjectKey, source_options: SourceOptions, caller_options: CallerOptions
) -> None:
    """Print a caller's token for one Connector.

    It is the password of the kubeconfig's proxy-url, good for this Connector and this proxy only.
    """
    write(issue_token(key, source_options, caller_options, invocation) + "\n")
