"""Command `credential`: the exec plugin of kubeconfigs from `kubeconfig --exec`."""

import os

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.choice import choose_connector
from connectorctl.command import make_command
from connectorctl.exec_credential import exec_credential
from connectorctl.invocation import Invocation
from connectorctl.oidc_token import TokenProvider
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.options import add_caller_options, add_connector_arguments, add_oidc_options, add_source_options
from connectorctl.output import write
from connectorctl.source_dispatch import issue_token


@make_command(
    "credential",
    examples=("connectorctl credential default/k8s-connector", "connectorctl credential --oidc github"),
)
@add_oidc_options
@add_caller_options
@add_connector_arguments()
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation,
    key: ObjectKey | None,
    token_provider: TokenProvider | None,
    audience: str,
    source_options: SourceOptions,
    caller_options: CallerOptions,
) -> None:
    """Print a caller's token for kubectl, as its credential plugins do.

    "connectorctl kubeconfig --exec" writes a kubeconfig that runs this command. The command stores nothing on disk.
    With a folder, that kubeconfig gets a token even if its Connector no longer exists. The proxy then refuses it.
    """
    if token_provider is not None:
        token = token_provider.fetch(os.environ, audience)
    else:
        key = choose_connector(key, source_options, invocation)
        token = issue_token(key, source_options, caller_options, invocation)
    write(exec_credential(token, os.environ))
