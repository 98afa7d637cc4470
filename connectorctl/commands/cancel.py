"""Command `cancel`: delete an access request."""

import click

from connector_store.domain.base.names import ObjectKey
from connector_store.kube.resources import ACCESS_REQUESTS
from connectorctl.access_cluster import delete, run_in_cluster
from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import AccessKeyParam, add_access_source_options
from connectorctl.output import write


@make_command("cancel", examples=("connectorctl cancel team-a/prod-5f1c22aa",))
@click.argument("request", metavar="NAMESPACE/REQUEST", type=AccessKeyParam("accessrequests"))
@add_access_source_options
@click.pass_obj
def command(invocation: Invocation, request: ObjectKey, source_options: SourceOptions) -> None:
    """Delete an access request. The access that it gave ends.

    Live connections of the access close.
    """
    run_in_cluster(source_options, invocation, lambda client: delete(client, ACCESS_REQUESTS, request))
    write(f"{ACCESS_REQUESTS} {request} deleted\n")
