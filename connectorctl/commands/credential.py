"""`connectorctl credential`: what a kubeconfig of `kubeconfig --exec` runs."""

import os

import click

from connector_store.domain.names import ObjectKey
from connectorctl.access import mint
from connectorctl.command import command as make
from connectorctl.options import Caller, ConnectorKey, Where, caller_options, source_options
from connectorctl.output import write
from connectorctl.plugin import exec_credential
from connectorctl.settings import own_settings
from connectorctl.situation import Situation


@make("credential", examples=("connectorctl credential default/k8s-connector",))
@click.argument("key", type=ConnectorKey(), metavar="NAMESPACE/NAME")
@caller_options
@source_options
@click.pass_obj
def command(situation: Situation, key: ObjectKey, where: Where, caller: Caller) -> None:
    """Print a caller's token for kubectl, as its credential plugins do.

    kubeconfig --exec writes a kubeconfig that runs this. Nothing is kept on disk.
    """
    write(exec_credential(mint(key, where, caller, own_settings(), situation), os.environ))
