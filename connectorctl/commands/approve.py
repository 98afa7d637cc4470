"""Command `approve`: approve an access request."""

import click

from connector_store.domain.base.names import ObjectKey
from connectorctl.command import make_command
from connectorctl.decision import add_decision_options, print_decision
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions


@make_command("approve", examples=("connectorctl approve team-a/prod-5f1c22aa",))
@add_decision_options
@click.pass_obj
def command(
    invocation: Invocation,
    request: ObjectKey,
    policy: str | None,
    comment: str | None,
    form: str | None,
    source_options: SourceOptions,
) -> None:
    """Approve an access request of another user.

    You need the verb approve on the AccessPolicy. To end the access early, delete the approval or the request.
    """
    print_decision(invocation, source_options, request, "Approved", policy=policy, comment=comment, form=form)
