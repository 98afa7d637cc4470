"""Command `completion`: print the completion script of a shell."""

import click
from click.shell_completion import get_completion_class

from connectorctl.command import PROGRAM, make_command
from connectorctl.output import write

SHELLS = ("bash", "zsh", "fish")


@make_command(
    "completion",
    examples=(
        "source <(connectorctl completion bash)",
        "connectorctl completion fish > ~/.config/fish/completions/connectorctl.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print a completion script for a shell.

    For "kubectl connector", kubectl's own completion runs kubectl_complete-connector, which the package also installs.
    """
    from connectorctl.cli import COMPLETE_VARIABLE, ROOT

    completion_class = get_completion_class(shell)
    assert completion_class is not None  # noqa: S101 - click supports these three
    write(completion_class(ROOT, {}, PROGRAM, COMPLETE_VARIABLE).source())
