"""Command `request`: ask for the use of a Connector for a while."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import click

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.printable import printable
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import ACCESS_APPROVALS, ACCESS_POLICIES, ACCESS_REQUESTS
from connectorctl.access_cluster import create, get, get_author, list_objects, run_in_cluster
from connectorctl.access_manifests import make_request
from connectorctl.access_params import NAMESPACE_PARAM, REASON_PARAM, ROLE_PARAM, USER_PARAM
from connectorctl.access_rows import RequestRow, parse_row
from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import (
    ConnectorKeyParam,
    add_access_source_options,
    add_format_option,
    make_duration_option,
)
from connectorctl.output import print_message, write, write_value

WAIT_INTERVAL: Final = 1.0
"""Seconds between two reads of the request with --wait."""
_REFUSALS: Final = frozenset(range(HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR)) - {
    HTTPStatus.TOO_MANY_REQUESTS
}
"""HTTP statuses that end --wait."""
EXIT_NOT_APPROVED: Final = 1
"""Exit code of --wait for a request that was denied, cannot be granted, or was deleted."""


@make_command(
    "request",
    examples=(
        'connectorctl request team-a/prod --for 1h --reason "INC-7, restart payments" --wait',
        "connectorctl request team-a/prod --reason INC-7 --role edit -n web",
        "connectorctl request team-a/prod --reason release --user system:serviceaccount:ci:deployer",
    ),
)
@click.argument("connector", metavar="NAMESPACE/CONNECTOR", type=ConnectorKeyParam())
@make_duration_option("Duration of the access: 30m, 1h30m. Default: the maximum of the AccessPolicy.")
@click.option("--reason", required=True, type=REASON_PARAM, help="Reason, for the approvers and the audit log.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=ROLE_PARAM,
    metavar="ROLE",
    help="ClusterRole to add for this time. Repeatable.",
)
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    type=NAMESPACE_PARAM,
    help="Namespace of the target, for --role. Repeatable.",
)
@click.option(
    "--user",
    type=USER_PARAM,
    help="User name that gets the access. Default: your own. For another user, you need the right to impersonate.",
)
@click.option("--wait", is_flag=True, help="Wait until the request is approved or denied.")
@add_format_option("json", "yaml")
@add_access_source_options
@click.pass_context
def command(
    ctx: click.Context,
    connector: ObjectKey,
    duration: int | None,
    reason: str,
    roles: Sequence[str],
    namespaces: Sequence[str],
    user: str | None,
    wait: bool,
    form: str | None,
    source_options: SourceOptions,
) -> None:
    """Ask for the use of a Connector for a while.

    Another user approves the request. With --wait, the exit code is 0 when the access begins, and 1 when the request is
    denied or deleted.
    """
    if namespaces and not roles:
        raise click.UsageError("--namespace: goes with --role; add --role ROLE")
    invocation: Invocation = ctx.obj

    async def ask(client: KubeClient) -> tuple[dict[str, Any], RequestRow]:
        author = await get_author(client)
        manifest = make_request(
            connector,
            requester=author.user,
            user=user,
            duration=duration,
            reason=reason,
            roles=roles,
            namespaces=namespaces,
        )
        created = await create(client, ACCESS_REQUESTS, manifest)
        key = parse_row(created).key
        print_message(f"next: another user approves it: connectorctl approve {key}")
        return (await _wait(client, created)) if wait else (created, parse_row(created))

    raw, row = run_in_cluster(source_options, invocation, ask)
    if form is not None:
        write_value(raw, form)
    else:
        write(f"{ACCESS_REQUESTS} {row.key} {printable(row.state) if wait else 'created'}\n")
    if wait and not row.is_ready:
        print_message(row.message or "the request was not approved")
        ctx.exit(EXIT_NOT_APPROVED)


async def _wait(client: KubeClient, created: dict[str, Any]) -> tuple[dict[str, Any], RequestRow]:
    """Return the request when it is no longer pending. Raises ApiError if it was deleted."""
    raw, row = created, parse_row(created)
    while row.is_pending:
        await asyncio.sleep(WAIT_INTERVAL)
        try:
            raw = await get(client, ACCESS_REQUESTS, row.key)
            approvals = await list_objects(client, ACCESS_APPROVALS, row.namespace)
            policies = await list_objects(client, ACCESS_POLICIES, row.namespace)
        except ApiError as error:
            # A server that is away or busy for a while does not end the wait.
            if error.status in _REFUSALS:
                raise
            continue
        row = parse_row(raw, approvals, policies)
    return raw, row
