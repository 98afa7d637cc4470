"""Command `credential`: the exec plugin of kubeconfigs from `kubeconfig --exec`."""

import os

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.command import make_command
from connectorctl.exec_plugin import exec_credential
from connectorctl.invocation import Invocation
from connectorctl.oidc_token import TokenProvider
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.options import ConnectorKeyParam, add_caller_options, add_oidc_options, add_source_options
from connectorctl.output import write
from connectorctl.source_dispatch import issue_token


@make_command(
    "credential",
    examples=("connectorctl credential default/k8s-connector", "connectorctl credential --oidc github"),
)
@click.argument("key", type=ConnectorKeyParam(), metavar="NAMESPACE/NAME", required=False)
@add_oidc_options
@add_caller_options
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

    kubeconfig --exec writes a kubeconfig that runs this command. It stores nothing on disk.
    """
    if token_provider is not None:
        token = token_provider.fetch(os.environ, audience)
    elif key is not None:
        token = issue_token(key, source_options, caller_options, invocation)
    else:
        raise click.UsageError("name a Connector, or with --oidc where the token comes from")
    write(exec_credential(token, os.environ))
