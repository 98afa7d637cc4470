"""`connectorctl token`: a caller's token."""

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.access import mint
from connectorctl.command import command as make
from connectorctl.options import Caller, ConnectorKey, Where, caller_options, source_options
from connectorctl.output import write
from connectorctl.settings import own_settings
from connectorctl.situation import Situation


@make(
    "token",
    examples=(
        "connectorctl token default/k8s-connector --ttl 1h",
        "connectorctl token team-a/k8s --service-account ci/pipeline",
    ),
)
@click.argument("key", type=ConnectorKey(), metavar="NAMESPACE/NAME")
@caller_options
@source_options
@click.pass_obj
def command(situation: Situation, key: ObjectKey, where: Where, caller: Caller) -> None:
    """Print a caller's token for one Connector.

    It is the password of the kubeconfig's proxy-url, good for this Connector and this proxy only.
    """
    write(mint(key, where, caller, own_settings(), situation) + "\n")
