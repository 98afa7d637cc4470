"""Command `can-i`: check whether a Connector's permissions allow a request."""

from dataclasses import replace
from typing import Final

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.config.connector_source import FolderSource
from connector_store.domain.objects.models import Target, Unusable
from connector_store.domain.permissions.evaluator import NotAllowed, PermissionEvaluator
from connector_store.domain.permissions.self_review import check_right, describe_treatment
from connectorctl.choice import choose_connector
from connectorctl.command import make_command
from connectorctl.inventory import not_found_error
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import ConnectorKeyParam, add_format_option, add_source_options, choose_folder, is_folder
from connectorctl.output import print_message, write, write_value
from connectorctl.source import resolve_source
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
@click.argument("words", metavar="[NAME] [DIR]", nargs=-1)
@click.option("--connector", "key", type=ConnectorKeyParam(), help="Connector to check. Default: the only one.")
@click.option("-n", "--namespace", default="", help="Namespace of the target. Default: all namespaces.")
@add_format_option("json", "yaml")
@add_source_options
@click.pass_context
def command(
    ctx: click.Context,
    verb: str,
    resource: str,
    words: tuple[str, ...],
    key: ObjectKey | None,
    namespace: str,
    form: str | None,
    source_options: SourceOptions,
) -> None:
    """Say whether a Connector allows a verb on a resource.

    RESOURCE is RESOURCE[.GROUP][/SUBRESOURCE], or a path that begins with a slash. The command does not check what the
    credential can do at the target. The answer includes what your approved access requests add. The exit code is 1
    if the Connector does not allow it.
    """
    names = [word for word in words if not is_folder(word)]
    if len(names) > 1:
        raise click.UsageError(f"{names[1]}: there are two names; write one")
    source = choose_folder([word for word in words if is_folder(word)], source_options.source)
    source_options = replace(source_options, source=source)
    key = choose_connector(key, source_options, ctx.obj)
    store = load_inventory(source_options, ctx.obj, namespace=key.namespace).store
    target = store.get(key)
    if target is None:
        raise not_found_error(store, key)
    if isinstance(target, Unusable):
        raise ParseError(f"Connector {key}", target.message)
    info = parse_request(verb, resource, "".join(names), namespace)
    is_allowed, note, reason = _evaluate(target, info, _widen(target, source_options, ctx.obj))
    if form is None:
        print_message(reason)
        write(f"{', '.join(filter(None, ('yes' if is_allowed else 'no', note)))}\n")
    else:
        write_value({"connector": str(key), "allowed": is_allowed, "note": note, "reason": reason}, form)
    ctx.exit(0 if is_allowed else EXIT_NOT_ALLOWED)


def _widen(target: Target, source_options: SourceOptions, invocation: Invocation) -> tuple[PermissionEvaluator, ...]:
    """Return the Connector's permissions with those of the user's access requests, of a cluster only."""
    permissions = target.permissions
    if permissions is None or isinstance(resolve_source(source_options, invocation), FolderSource):
        return ()
    from connectorctl.access_cluster import load_own_roles, run_in_cluster  # imports aiohttp

    roles = run_in_cluster(source_options, invocation, lambda client: load_own_roles(client, target.key))
    return tuple(each for entries in roles if (each := permissions.widen(entries)) is not None)


def _evaluate(target: Target, info: RequestInfo, wider: tuple[PermissionEvaluator, ...]) -> tuple[bool, str, str]:
    """Return whether the Connector allows the request, how it limits it, and the reason."""
    if target.permissions is None:
        return True, "", "the Connector has no permissions, so it allows all that its credential can do"
    decision = check_right(target.permissions, info, wider)
    if not isinstance(decision, NotAllowed):
        note = describe_treatment(decision.treatment)
        reason = f"by ClusterRole {decision.role}" if decision.role else "because no ClusterRole in deny covers it"
        is_widened = isinstance(check_right(target.permissions, info), NotAllowed)
        suffix = ", which your access request adds" if is_widened else ""
        return True, note, f"allowed {reason}{suffix}"
    reason = (
        f"denied by ClusterRole {decision.denied_by}" if decision.denied_by else "no ClusterRole in allow covers it"
    )
    if decision.reason:
        subject = decision.missing.resource or decision.missing.path
        reason += f'; it needs "{decision.missing.verb}" on {subject}: {decision.reason}'
    return False, "", reason


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
