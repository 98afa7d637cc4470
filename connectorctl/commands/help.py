"""Command `help`: the same as --help, as in kubectl."""

import click

from connectorctl.command import make_command
from connectorctl.output import write


@make_command("help", examples=("connectorctl help kubeconfig", "connectorctl help --man > connectorctl.1"))
@click.argument("name", metavar="[COMMAND]", required=False)
@click.option("--man", is_flag=True, help="Print the manual page of all commands, for man -l.")
@click.pass_context
def command(ctx: click.Context, name: str | None, man: bool) -> None:
    """Print the help of a command."""
    root = ctx.find_root()
    if man:
        from connectorctl.man import render_man_page

        write(render_man_page(root))
        return
    if name is None:
        write(f"{root.get_help()}\n")
        return
    group = root.command
    assert isinstance(group, click.Group)  # noqa: S101 - this command is in a group
    _, subcommand, _ = group.resolve_command(root, [name])
    assert subcommand is not None  # noqa: S101 - resolve_command raises for an unknown name
    with subcommand.make_context(name, [], parent=root, resilient_parsing=True) as subcontext:
        write(f"{subcommand.get_help(subcontext)}\n")
