"""Command line: runs one command, which prints its document to stdout and messages to stderr.

Exit codes: 0 done; 1 refused, not found or wrong in a file; 2 usage; 130 interrupted. A command is a module in
`connectorctl/commands` whose `command` is the click command, and one line in COMMANDS.
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import click

from connector_store.kube.errors import ApiError
from connector_store.version import VERSION
from connectorctl.command import PLUGIN, PROGRAM, DocumentedCommand
from connectorctl.invocation import Invocation
from connectorctl.output import EXIT_READER_GONE, ReaderGoneError, print_error, print_message, print_server_error, write

COMMAND_GROUPS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "Start": {
            "import": "connectorctl.commands.import_",
            "init": "connectorctl.commands.init",
            "check": "connectorctl.commands.check",
            "proxy": "connectorctl.commands.proxy",
        },
        "Use": {
            "run": "connectorctl.commands.run",
            "kubeconfig": "connectorctl.commands.kubeconfig",
            "token": "connectorctl.commands.token",
            "credential": "connectorctl.commands.credential",
        },
        "Access": {
            "request": "connectorctl.commands.request",
            "requests": "connectorctl.commands.requests",
            "cancel": "connectorctl.commands.cancel",
            "approve": "connectorctl.commands.approve",
            "deny": "connectorctl.commands.deny",
            "lock": "connectorctl.commands.lock",
            "unlock": "connectorctl.commands.unlock",
        },
        "Inspect": {
            "status": "connectorctl.commands.status",
            "describe": "connectorctl.commands.describe",
            "sessions": "connectorctl.commands.sessions",
            "refusals": "connectorctl.commands.refusals",
            "page": "connectorctl.commands.page",
            "doctor": "connectorctl.commands.doctor",
            "can-i": "connectorctl.commands.can_i",
            "suggest-role": "connectorctl.commands.suggest_role",
        },
        "Scripts": {
            "completion": "connectorctl.commands.completion",
            "help": "connectorctl.commands.help",
            "version": "connectorctl.commands.version",
        },
    }
)
"""Groups of the help, with the module of each command. A module is imported when its command runs."""
COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {name: module for commands in COMMAND_GROUPS.values() for name, module in commands.items()}
)
"""Module by command name, in the order of the help."""
SYNONYMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "list": "status",
        "get": "status",
        "ls": "status",
        "logs": "status",
        "show": "describe",
        "start": "proxy",
        "exec": "run",
        "lend": "import",
        "who": "sessions",
    }
)
"""Commands that other programs have, and the command that does the same here."""

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
COMPLETE_VARIABLE: Final = "_CONNECTORCTL_COMPLETE"
"""Environment variable of completion scripts, as click names it for this program."""
INSTALL_HINT: Final = "install all of connectorctl: docs/install.md#connectorctl"
"""Next step for a command that the one-file program does not have."""
_POD_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"


class CommandGroup(DocumentedCommand, click.Group):
    """Group of the commands in COMMANDS."""

    def __init__(self, **values: object) -> None:
        # Placeholders with the names only, for click's "Did you mean".
        names = {name: click.Command(name) for name in COMMANDS}
        super().__init__(PROGRAM, commands=names, **values)  # type: ignore[arg-type]  # passed through

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        synonym = SYNONYMS.get(args[0]) if args and args[0] not in COMMANDS else None
        if synonym is not None:
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {synonym!r}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, names in COMMAND_GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", self._short_help(ctx, name)) for name in names])

    def _short_help(self, ctx: click.Context, name: str) -> str:
        try:
            command = self.get_command(ctx, name)
        except ModuleNotFoundError:
            return "(needs all of connectorctl)"
        return command.short_help or "" if command is not None else ""


ROOT: Final = CommandGroup(
    help="""Use Kubernetes clusters through their Connectors, without holding their credentials.

    Start with a cluster that kubectl reaches: "connectorctl import", then "connectorctl run -- kubectl get pods".
    """,
    epilog="The reference is docs/reference/connectorctl.md. COMMAND --help has examples.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=lambda ctx, _, value: _print_version(ctx) if value else None,
            help="Print the version.",
        )
    ],
)


def _print_version(ctx: click.Context) -> None:
    write(f"{PROGRAM} {VERSION}\n")
    ctx.exit()


def run(arguments: Sequence[str], *, is_plugin: bool) -> int:
    """Run one command and return its exit code. `is_plugin` means that it runs as `kubectl connector`."""
    invocation = Invocation(is_plugin=is_plugin, in_pod=bool(os.environ.get(_POD_VARIABLE)))
    try:
        code = ROOT.main(
            list(arguments),
            prog_name=PLUGIN if is_plugin else PROGRAM,
            complete_var=COMPLETE_VARIABLE,
            standalone_mode=False,
            obj=invocation,
            color=False if os.environ.get("NO_COLOR") else None,
        )
    except click.UsageError as error:
        return _print_usage_error(error)
    except ModuleNotFoundError as error:
        print_error(f"this needs the package {error.name}, which this file does not have; {INSTALL_HINT}")
    except click.ClickException as error:
        print_error(error.format_message())
    except ReaderGoneError:
        return EXIT_READER_GONE
    except OSError as error:
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ApiError as error:
        print_server_error(error.reason, error.message) if error.reason else print_error(error.message)
    except ValueError as error:
        print_error(str(error))
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    else:
        return code if isinstance(code, int) else EXIT_OK
    return EXIT_FAILED


def _print_usage_error(error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    else:
        path = error.ctx.command_path if error.ctx is not None else PROGRAM
        print_error(" ".join(error.format_message().split()))  # click lists choices on lines of their own
        print_message(f"See '{path} --help' for usage.")
    return error.exit_code
