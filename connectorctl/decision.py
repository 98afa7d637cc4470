"""Options and output of the commands `approve` and `deny`."""

from collections.abc import Callable
from typing import Any, Literal

import click

from connector_store.domain.base.names import ObjectKey
from connector_store.kube.resources import ACCESS_REQUESTS
from connectorctl.access_cluster import decide, run_in_cluster
from connectorctl.access_params import NAME_PARAM, REASON_PARAM
from connectorctl.access_rows import parse_row
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import AccessKeyParam, add_access_source_options, add_format_option, apply_decorators
from connectorctl.output import print_message, write, write_value


def add_decision_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument NAMESPACE/REQUEST, `--policy`, `--comment`, `-o` and the options of the source."""
    return apply_decorators(
        function,
        click.argument("request", metavar="NAMESPACE/REQUEST", type=AccessKeyParam("accessrequests")),
        click.option("--policy", metavar="NAME", type=NAME_PARAM,
                     help="AccessPolicy to decide by. Default: the only one that applies."),
        click.option("--comment", type=REASON_PARAM, help="Comment, for the requester and the audit log."),
        add_format_option("json", "yaml"),
        add_access_source_options,
    )  # fmt: skip


def print_decision(
    invocation: Invocation,
    source_options: SourceOptions,
    key: ObjectKey,
    decision: Literal["Approved", "Denied"],
    *,
    policy: str | None,
    comment: str | None,
    form: str | None,
) -> None:
    """Create the AccessApproval, and print what was decided."""
    request, approval = run_in_cluster(
        source_options,
        invocation,
        lambda client: decide(client, key, decision, policy_name=policy, comment=comment),
    )
    row = parse_row(request)
    duration = f" for {row.duration}" if row.duration else ""
    print_message(f"{row.subject} asked for {row.namespace}/{row.connector}{duration}: {row.reason}")
    if form is not None:
        write_value(approval, form)
    else:
        write(f"{ACCESS_REQUESTS} {key} {decision.lower()}\n")
