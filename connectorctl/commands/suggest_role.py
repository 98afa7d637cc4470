"""Command `suggest-role`: write the smallest ClusterRoles for what callers did."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import click

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.permissions.builtin_roles import role_manifest
from connector_store.domain.permissions.role_suggestion import suggest_roles
from connectorctl.command import make_command
from connectorctl.options import KEY_PARAM, add_format_option
from connectorctl.output import print_message, render_value, write, write_value

EXIT_NOTHING: Final = 1
"""Exit code if no role is written, so that a script does not apply an empty document."""


@make_command(
    "suggest-role",
    examples=(
        "connectorctl suggest-role --audit proxy.log --connector team-a/prod",
        "connectorctl suggest-role --audit a.log --audit b.log --user system:serviceaccount:team-a:ci --name ci",
    ),
)
@click.option(
    "--audit",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with audit records of a proxy, as JSON.",
)
@click.option("--connector", type=KEY_PARAM, help="Connector whose requests to include. Default: all Connectors.")
@click.option("--user", help="User name of the caller whose requests to include. Default: all callers.")
@click.option("--name", default="suggested", show_default=True, help="Name of the roles.")
@add_format_option("json", "yaml")
@click.pass_context
def command(
    ctx: click.Context,
    files: Sequence[Path],
    connector: ObjectKey | None,
    user: str | None,
    name: str,
    form: str | None,
) -> None:
    """Write the smallest ClusterRoles for the requests in an audit log, ready to apply.

    A comment at the end has their entries for spec.permissions. stderr says what is left out, and why. The exit code
    is 1 if there is nothing to write a role for. -o prints one document with roles and permissions.
    """
    lines = _audit_lines(files, str(connector) if connector else None, user)
    first_line = next(lines, None)
    if first_line is None:
        print_message(
            "no audit record in JSON matches; if the proxy runs on a terminal, start it with: "
            "connectorctl proxy -- --set connector_audit=json"
        )
        ctx.exit(EXIT_NOTHING)
    suggestion = suggest_roles(chain((first_line,), lines), name=name)
    for omission in suggestion.omissions:
        print_message(f"left out: {omission}")
    if not suggestion.roles:
        print_message("no request needs a role")
        ctx.exit(EXIT_NOTHING)
    if form is not None:
        roles = [role_manifest(role) for role in suggestion.roles]
        write_value({"roles": roles, "permissions": dict(suggestion.permissions)}, form)
        return
    documents = [render_value(role_manifest(role), "yaml") for role in suggestion.roles]
    entries = render_value({"permissions": dict(suggestion.permissions)}, "yaml")
    comment = ["spec:", *(f"  {line}" for line in entries.splitlines())]
    write("---\n".join(documents) + "".join(f"# {line}\n" for line in comment))


def _audit_lines(files: Sequence[Path], connector: str | None, user: str | None) -> Iterator[dict[str, object]]:
    """Yield the matching audit records of log files. Other lines are skipped."""
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for text in lines:
                if not text.startswith("{"):
                    continue
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if "event" not in line:
                    continue
                caller = line.get("caller") or {}
                if connector in (None, line.get("connector")) and user in (None, caller.get("user")):
                    yield line
