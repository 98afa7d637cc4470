"""Command `can-i`: check whether a Connector's permissions allow a request."""

from typing import Final

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.objects.models import Unusable
from connector_store.domain.permissions.permissions import NotAllowed, RequestAttributes
from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import ConnectorKeyParam, add_source_options
from connectorctl.output import print_message, write
from connectorctl.source_dispatch import load_inventory

EXIT_NOT_ALLOWED: Final = 1
"""Exit code, as in `kubectl auth can-i`."""


@make_command(
    "can-i",
    examples=(
        "connectorctl can-i delete deployments.apps -n web --connector team-a/prod",
        "connectorctl can-i create pods/exec -n web --connector team-a/prod",
        "connectorctl can-i get /metrics --connector team-a/prod",
    ),
)
@click.argument("verb")
@click.argument("resource")
@click.argument("name", default="")
@click.option("--connector", "key", type=ConnectorKeyParam(), required=True, help="Connector to check.")
@click.option("-n", "--namespace", default="", help="Namespace of the target. Default: all namespaces.")
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation,
    verb: str,
    resource: str,
    name: str,
    key: ObjectKey,
    namespace: str,
    source_options: SourceOptions,
) -> None:
    """Say whether a Connector allows a verb on a resource.

    RESOURCE is RESOURCE[.GROUP][/SUBRESOURCE], or a path that begins with a slash. The command does not check what the
    credential can do at the target. The exit code is 1 if the Connector does not allow it.
    """
    target = load_inventory(source_options, invocation, namespace=key.namespace).store.get(key)
    if target is None:
        raise ParseError("", f'connectors.connectors.alauda.io "{key.name}" not found in namespace "{key.namespace}"')
    if isinstance(target, Unusable):
        raise ParseError(f"Connector {key}", target.message)
    if target.permissions is None:
        print_message("the Connector is not limited: it lends all that its credential may do")
        write("yes\n")
        return
    info = parse_request(verb, resource, name, namespace)
    decision = target.permissions.evaluate(RequestAttributes(info=info, may_create=verb == "update"))
    if isinstance(decision, NotAllowed):
        reason = (
            f"denied by ClusterRole {decision.denied_by}" if decision.denied_by else "no ClusterRole of allow has it"
        )
        if decision.reason:
            subject = decision.missing.resource or decision.missing.path
            reason += f'; it needs "{decision.missing.verb}" on {subject}: {decision.reason}'
        print_message(reason)
        write("no\n")
        raise click.exceptions.Exit(EXIT_NOT_ALLOWED)
    print_message(f"by ClusterRole {decision.role}" if decision.role else "it lends all but what deny names")
    write("yes\n")


def parse_request(verb: str, resource: str, name: str, namespace: str) -> RequestInfo:
    """Return the request info of the arguments.

    >>> parse_request("get", "deployments.apps/scale", "a", "web")[:6]
    ('get', 'apps', 'deployments', 'scale', 'web', 'a')
    """
    if resource.startswith("/"):
        return RequestInfo(verb, "", "", "", "", "", resource)
    group_resource, _, subresource = resource.partition("/")
    plural, _, group = group_resource.partition(".")
    return RequestInfo(verb, group, plural, subresource, namespace, name, "")
