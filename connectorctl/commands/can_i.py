"""`connectorctl can-i`: whether a limited Connector lends something."""

from typing import Final

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.objects.models import Unusable
from connector_store.domain.permissions.permissions import NotAllowed, RequestAttributes
from connectorctl.access import load
from connectorctl.command import command as make
from connectorctl.options import ConnectorKey, Where, source_options
from connectorctl.output import say, write
from connectorctl.settings import own_settings
from connectorctl.situation import Situation

NO: Final = 1
"""Exit code, as that of `kubectl auth can-i`."""


@make(
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
@click.option("--connector", "key", type=ConnectorKey(), required=True, help="The Connector.")
@click.option("-n", "--namespace", default="", help="Of the target. Default: across all namespaces.")
@source_options
@click.pass_obj
def command(
    situation: Situation, verb: str, resource: str, name: str, key: ObjectKey, namespace: str, where: Where
) -> None:
    """Say whether a Connector lends a verb on a resource.

    RESOURCE is RESOURCE[.GROUP][/SUBRESOURCE], or a path that begins with a slash. What the credential itself may do at
    the target is not asked. Exit code 1: it does not lend it.
    """
    found = load(where, own_settings(), situation, namespace=key.namespace).store.get(key)
    if found is None:
        raise ParseError("", f'connectors.connectors.alauda.io "{key.name}" not found in namespace "{key.namespace}"')
    if isinstance(found, Unusable):
        raise ParseError(f"Connector {key}", found.message)
    if found.permissions is None:
        say("the Connector is not limited: it lends all that its credential may do")
        write("yes\n")
        return
    info = request(verb, resource, name, namespace)
    answer = found.permissions.evaluate(RequestAttributes(info=info, may_create=verb == "update"))
    if isinstance(answer, NotAllowed):
        why = f"denied by ClusterRole {answer.denied_by}" if answer.denied_by else "no ClusterRole of allow has it"
        say(
            why
            + (
                f'; it needs "{answer.missing.verb}" on {answer.missing.resource}: {answer.reason}'
                if answer.reason
                else ""
            )
        )
        write("no\n")
        raise click.exceptions.Exit(NO)
    say(f"by ClusterRole {answer.role}" if answer.role else "it lends all but what deny names")
    write("yes\n")


def request(verb: str, resource: str, name: str, namespace: str) -> RequestInfo:
    """What a request for it is taken for.

    >>> request("get", "deployments.apps/scale", "a", "web")[:6]
    ('get', 'apps', 'deployments', 'scale', 'web', 'a')
    """
    if resource.startswith("/"):
        return RequestInfo(verb, "", "", "", "", "", resource)
    whole, _, subresource = resource.partition("/")
    plural, _, group = whole.partition(".")
    return RequestInfo(verb, group, plural, subresource, namespace, name, "")
