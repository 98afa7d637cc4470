"""Command `unlock`: remove a lock."""

from pathlib import Path

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.connector_source import FolderSource
from connector_store.kube.resources import ACCESS_LOCKS
from connectorctl.access_cluster import delete, run_in_cluster
from connectorctl.command import make_command
from connectorctl.commands.lock import lock_file
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import AccessKeyParam, add_access_source_options
from connectorctl.output import write
from connectorctl.source import resolve_lock_source


@make_command(
    "unlock",
    examples=(
        "connectorctl unlock team-a/prod-5f1c22aa",
        "connectorctl unlock team-a/prod-5f1c22aa --source ./connectors",
    ),
)
@click.argument("lock", metavar="NAMESPACE/LOCK", type=AccessKeyParam("accesslocks"))
@add_access_source_options
@click.pass_obj
def command(invocation: Invocation, lock: ObjectKey, source_options: SourceOptions) -> None:
    """Remove a lock.

    With a folder as --source, the command removes the manifest that "lock" wrote there.
    """
    source = resolve_lock_source(source_options, invocation)
    if isinstance(source, FolderSource):
        path = lock_file(Path(source.path), lock)
        try:
            path.unlink()
        except FileNotFoundError:
            raise ParseError("", f'"{path}" does not exist; remove the manifest of the lock from its file') from None
    else:
        run_in_cluster(source_options, invocation, lambda client: delete(client, ACCESS_LOCKS, lock))
    write(f"{ACCESS_LOCKS} {lock} deleted\n")
