"""Base of all commands: help with examples, printed through `output`."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import click

from connectorctl.output import write

PROGRAM: Final = "connectorctl"
PLUGIN: Final = "kubectl connector"


class DocumentedCommand(click.Command):
    """Command whose help is written like other documents: a reader that closes stdout early is not a failure."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _print_help
        return option


def _print_help(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        write(f"{ctx.get_help()}\n")
        ctx.exit()


class Command(DocumentedCommand):
    """Command whose help ends with examples. They begin with `connectorctl`, and show the name that was typed.

    If a command has many options, the help shows those in `common` first, and the others below "Advanced options".
    """

    def __init__(
        self, *arguments: Any, examples: Sequence[str] = (), common: Collection[str] = (), **values: Any
    ) -> None:
        super().__init__(*arguments, **values)
        self.examples = tuple(examples)
        self._common = frozenset(common)
        # Set explicitly, because click shortens the text that it takes from the help.
        self.short_help = (self.help or "").partition("\n")[0]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self._common:
            super().format_options(ctx, formatter)
            return
        common: list[tuple[str, str]] = []
        advanced: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                (common if self._common.intersection(parameter.opts) else advanced).append(record)
        for title, records in (("Options", common), ("Advanced options", advanced)):
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.examples:
            return
        with formatter.section("Examples"):
            for example in self.examples:
                example = example.replace(f"{PROGRAM} ", f"{ctx.find_root().info_name} ")
                formatter.write(f"  {example}\n")


def make_command(
    name: str, *, examples: Sequence[str], common: Collection[str] = (), kind: type[Command] = Command
) -> Callable[[Callable[..., Any]], Command]:
    """Decorate the function of a command. Its docstring is the help; the first line is in the list of commands."""
    return click.command(name, cls=kind, examples=examples, common=common)
