"""Command `token`: print a caller's token."""

from pathlib import Path

import click

from connector_store.domain.base.names import ObjectKey
from connector_store.private_files import write_private
from connectorctl.choice import choose_connector
from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.options import add_caller_options, add_connector_arguments, add_source_options
from connectorctl.output import print_message, write
from connectorctl.source_dispatch import issue_token


@make_command(
    "token",
    examples=(
        "connectorctl token default/k8s-connector --ttl 1h",
        "connectorctl token team-a/k8s --service-account ci/pipeline -o context.token",
    ),
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write the token to, without a newline. Only you can read it. An existing file is replaced.",
)
@add_caller_options
@add_connector_arguments()
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation,
    key: ObjectKey | None,
    output: Path | None,
    source_options: SourceOptions,
    caller_options: CallerOptions,
) -> None:
    """Print a caller's token for one Connector.

    It is the password of the kubeconfig's proxy-url. It works for this Connector and this proxy only.
    """
    key = choose_connector(key, source_options, invocation)
    token = issue_token(key, source_options, caller_options, invocation)
    if output is None:
        write(f"{token}\n")
        return
    # No newline: some clients send the whole file as the token, and the Python client raises ValueError for one.
    write_private(output, token)
    print_message(f"wrote {output}")
