"""`connectorctl credential`: what a kubeconfig of `kubeconfig --exec` runs."""

import os

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.command import make_command as make
from connectorctl.exec_plugin import exec_credential
from connectorctl.invocation import Invocation
from connectorctl.oidc_token import TokenProvider
from connectorctl.options import (
    CallerOptions,
    ConnectorKeyParam,
    SourceOptions,
    add_caller_options,
    add_oidc_options,
    add_source_options,
)
from connectorctl.output import write
from connectorctl.settings import load_settings
from connectorctl.source_dispatch import issue_token


@make(
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
    identity: TokenProvider | None,
    audience: str,
    where: SourceOptions,
    caller: CallerOptions,
) -> None:
    """Print a caller's token for kubectl, as its credential plugins do.

    kubeconfig --exec writes a kubeconfig that runs this. Nothing is kept on disk.
    """
    if identity is not None:
        token = identity.fetch(os.environ, audience)
    elif key is not None:
        token = issue_token(key, where, caller, load_settings(), invocation)
    else:
        raise click.UsageError("name a Connector, or with --oidc where the token comes from")
    write(exec_credential(token, os.environ))
