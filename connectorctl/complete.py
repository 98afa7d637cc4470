"""What shells complete: names of Connectors, and the words of the kubectl plugin.

A completion that fails is none: nothing is printed that a shell would take for one.
"""

from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import ShellComplete

from connector_store.kube.errors import ApiError
from connectorctl.access import load
from connectorctl.command import PLUGIN
from connectorctl.options import Where
from connectorctl.settings import own_settings
from connectorctl.situation import Situation

NO_FILES: Final = ":4"
"""The last line of an answer to kubectl: ShellCompDirectiveNoFileComp of github.com/spf13/cobra."""
FILES: Final = ":0"
"""ShellCompDirectiveDefault: the shell completes file names."""


def connectors(where: Where, situation: Situation) -> list[str]:
    """NAMESPACE/NAME of every Connector of the source, in order; none if it cannot be read."""
    try:
        found = load(where, own_settings(), situation, namespace=None).store.connectors()
    except (OSError, ValueError, ApiError, click.ClickException):
        return []
    return sorted(str(each.key) for each in found)


def answer_kubectl(words: Sequence[str]) -> int:
    """Print completions of the last of `words` in the form that kubectl passes on (its plugin documentation)."""
    from connectorctl.cli import ROOT

    *before, incomplete = words or [""]
    shell = ShellComplete(ROOT, {"obj": Situation(plugin=True)}, PLUGIN, "")
    found = shell.get_completions(before, incomplete)
    for each in found:
        if each.type == "plain":
            click.echo(f"{each.value}\t{each.help}" if each.help else each.value)
    click.echo(FILES if any(each.type != "plain" for each in found) else NO_FILES)
    return 0
