"""What shells complete: names of Connectors, and the words of the kubectl plugin.

A completion that fails is none: nothing is printed that a shell would take for one.
"""

from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import ShellComplete

from connector_store.kube.errors import ApiError
from connectorctl.command import PLUGIN
from connectorctl.invocation import Invocation
from connectorctl.options import SourceOptions
from connectorctl.settings import load_settings
from connectorctl.source_dispatch import load_inventory

NO_FILE_COMPLETION: Final = ":4"
"""The last line of an answer to kubectl: ShellCompDirectiveNoFileComp of github.com/spf13/cobra."""
FILE_COMPLETION: Final = ":0"
"""ShellCompDirectiveDefault: the shell completes file names."""


def complete_connectors(source_options: SourceOptions, invocation: Invocation) -> list[str]:
    """NAMESPACE/NAME of every Connector of the source, in order; none if it cannot be read."""
    try:
        connectors = load_inventory(source_options, load_settings(), invocation, namespace=None).store.connectors()
    except (OSError, ValueError, ApiError, click.ClickException):
        return []
    return sorted(str(each.key) for each in connectors)


def print_kubectl_completions(words: Sequence[str]) -> int:
    """Print completions of the last of `words` in the form that kubectl passes on (its plugin documentation)."""
    from connectorctl.cli import ROOT

    *arguments, incomplete = words or [""]
    shell = ShellComplete(ROOT, {"obj": Invocation(is_plugin=True)}, PLUGIN, "")
    completions = shell.get_completions(arguments, incomplete)
    for each in completions:
        if each.type == "plain":
            click.echo(f"{each.value}\t{each.help}" if each.help else each.value)
    click.echo(FILE_COMPLETION if any(each.type != "plain" for each in completions) else NO_FILE_COMPLETION)
    return 0
