"""Manual page of the command line, from the texts of its help, in the macros of man(7)."""

from collections.abc import Iterator

import click

from connector_store.version import VERSION
from connectorctl.command import PROGRAM, Command

EXIT_CODES = (
    ("0", "done"),
    ("1", "refused, not found, or a problem in a file"),
    ("2", "wrong usage"),
    ("130", "interrupted"),
)


def render_man_page(root: click.Context) -> str:
    """Return the page for section 1. `man -l FILE` shows it."""
    return "\n".join(_lines(root)) + "\n"


def _lines(root: click.Context) -> Iterator[str]:
    group = root.command
    assert isinstance(group, click.Group)  # noqa: S101 - the root command is a group
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {VERSION}"'
    yield from (".SH NAME", f"{PROGRAM} \\- {escape_roff((group.help or '').rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", "COMMAND [OPTIONS]...", ".SH COMMANDS")
    for name in group.list_commands(root):
        subcommand = group.get_command(root, name)
        assert subcommand is not None  # noqa: S101 - the group lists it
        with subcommand.make_context(name, [], parent=root, resilient_parsing=True) as subcontext:
            yield from _command_lines(subcontext, subcommand)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from (".TP", f".B {code}", escape_roff(meaning))


def _command_lines(ctx: click.Context, command: click.Command) -> Iterator[str]:
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    yield f'.SS "{escape_roff(usage)}"'
    for paragraph in (command.help or "").split("\n\n"):
        yield from (".PP", escape_roff(" ".join(paragraph.split())))
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and record[1]:
            yield from (".TP", f".B {escape_roff(record[0])}", escape_roff(" ".join(record[1].split())))
    if isinstance(command, Command) and command.examples:
        yield from (".PP", "Examples:", ".PP", ".nf", *map(escape_roff, command.examples), ".fi")


def escape_roff(text: str) -> str:
    """Escape the characters that have a meaning in troff(1)."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
