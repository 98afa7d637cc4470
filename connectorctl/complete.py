"""Shell completion: names of Connectors, requests and locks, and completions of the kubectl plugin.

If a completion fails, nothing is printed, because the shell would offer it as a completion.
"""

from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import ShellComplete

from connector_store.kube.errors import ApiError
from connector_store.kube.resources import ACCESS_LOCKS, ACCESS_REQUESTS
from connectorctl.command import PLUGIN
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.source_dispatch import load_inventory

NO_FILE_COMPLETION: Final = ":4"
"""Last line of the output for kubectl: ShellCompDirectiveNoFileComp of github.com/spf13/cobra."""
FILE_COMPLETION: Final = ":0"
"""ShellCompDirectiveDefault: the shell completes file names."""


def complete_connectors(source_options: SourceOptions, invocation: Invocation) -> list[str]:
    """Return NAMESPACE/NAME of each Connector of the source, in order, or nothing if it cannot be read."""
    try:
        connectors = load_inventory(source_options, invocation, namespace=None).store.connectors()
    except (OSError, ValueError, ApiError, click.ClickException):
        return []
    return sorted(str(connector.key) for connector in connectors)


def complete_access_objects(
    plural: str, namespace: str | None, source_options: SourceOptions, invocation: Invocation
) -> list[str]:
    """Return NAMESPACE/NAME of each AccessRequest or AccessLock of a namespace (None: all).

    Return nothing if the user cannot list them. Approvers often can in their own namespaces only.
    """
    from connectorctl import access_cluster

    resource = {each.plural: each for each in (ACCESS_REQUESTS, ACCESS_LOCKS)}[plural]
    try:
        return sorted(access_cluster.list_keys(resource, namespace, source_options, invocation))
    except (OSError, ValueError, ApiError, click.ClickException):
        return []


def print_kubectl_completions(words: Sequence[str]) -> int:
    """Print completions of the last of `words`, in the format that kubectl's plugin documentation defines."""
    from connectorctl.cli import ROOT

    *arguments, incomplete = words or [""]
    shell = ShellComplete(ROOT, {"obj": Invocation(is_plugin=True)}, PLUGIN, "")
    completions = shell.get_completions(arguments, incomplete)
    for item in completions:
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(FILE_COMPLETION if any(item.type != "plain" for item in completions) else NO_FILE_COMPLETION)
    return 0
