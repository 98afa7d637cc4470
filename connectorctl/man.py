"""The manual page of the command line, made of what its help says, in the macros of man(7)."""

from collections.abc import Iterator

import click

from connector_store.version import VERSION
from connectorctl.command import PROGRAM, Command

CODES = (("0", "done"), ("1", "refused, not found, or wrong in a file"), ("2", "usage"), ("130", "interrupted"))


def page(root: click.Context) -> str:
    """For section 1, as `man -l FILE` shows it."""
    return "\n".join(_lines(root)) + "\n"


def _lines(root: click.Context) -> Iterator[str]:
    group = root.command
    assert isinstance(group, click.Group)  # noqa: S101 - the program is one
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {VERSION}"'
    yield from (".SH NAME", f"{PROGRAM} \\- {text((group.help or '').rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", "COMMAND [OPTIONS]...", ".SH COMMANDS")
    for name in group.list_commands(root):
        found = group.get_command(root, name)
        assert found is not None  # noqa: S101 - the group has listed it
        with found.make_context(name, [], parent=root, resilient_parsing=True) as inner:
            yield from _command(inner, found)
    yield ".SH EXIT STATUS"
    for code, meaning in CODES:
        yield from (".TP", f".B {code}", text(meaning))


def _command(ctx: click.Context, command: click.Command) -> Iterator[str]:
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    yield f'.SS "{text(usage)}"'
    for paragraph in (command.help or "").split("\n\n"):
        yield from (".PP", text(" ".join(paragraph.split())))
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and record[1]:
            yield from (".TP", f".B {text(record[0])}", text(" ".join(record[1].split())))
    if isinstance(command, Command) and command.examples:
        yield from (".PP", "Examples:", ".PP", ".nf", *map(text, command.examples), ".fi")


def text(words: str) -> str:
    """With what troff(1) would take for its own escaped."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
