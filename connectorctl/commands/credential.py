"""`connectorctl credential`: what a kubeconfig of `kubeconfig --exec` runs."""

import os

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.access import mint
from connectorctl.command import command as make
from connectorctl.identity import IdentitySource
from connectorctl.options import Caller, ConnectorKey, Where, caller_options, identity_options, source_options
from connectorctl.output import write
from connectorctl.plugin import exec_credential
from connectorctl.settings import own_settings
from connectorctl.situation import Situation


@make(
    "credential",
    examples=("connectorctl credential default/k8s-connector", "connectorctl credential --oidc github"),
)
@click.argument("key", type=ConnectorKey(), metavar="NAMESPACE/NAME", required=False)
@identity_options
@caller_options
@source_options
@click.pass_obj
def command(
    situation: Situation,
    key: ObjectKey | None,
    identity: IdentitySource | None,
    audience: str,
    where: Where,
    caller: Caller,
) -> None:
    """Print a caller's token for kubectl, as its credential plugins do.

    kubeconfig --exec writes a kubeconfig that runs this. Nothing is kept on disk.
    """
    if identity is not None:
        token = identity.read(os.environ, audience)
    elif key is not None:
        token = mint(key, where, caller, own_settings(), situation)
    else:
        raise click.UsageError("name a Connector, or with --oidc where the token comes from")
    write(exec_credential(token, os.environ))
