"""Command `lock`: lock callers out of Connectors."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.config.connector_source import FolderSource
from connector_store.domain.config.settings import Settings
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import ACCESS_LOCKS, CONNECTORS
from connector_store.private_files import create_private
from connectorctl.access_cluster import Author, create, get_author, run_in_cluster
from connectorctl.access_manifests import make_lock
from connectorctl.access_params import GROUP_PARAM, NAMESPACE_PARAM, REASON_PARAM, USER_PARAM
from connectorctl.command import make_command
from connectorctl.folders import missing_folder_error
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import (
    ConnectorKeyParam,
    add_access_source_options,
    add_format_option,
    make_duration_option,
)
from connectorctl.output import print_message, render_value, write, write_value
from connectorctl.source import resolve_lock_source

DELAY_NOTE: Final = (
    "each proxy applies the lock when its watch delivers it, normally within a second; "
    "connector_watch_age_seconds shows a proxy whose watch fails"
)
"""Note about the delay. The command cannot wait for the proxies: they may not write, so no object has their state."""


@make_command(
    "lock",
    examples=(
        'connectorctl lock team-a/prod --user jane --reason "stolen laptop"',
        'connectorctl lock --all --user jane --reason "stolen laptop"',
        "connectorctl lock team-a/prod --for 2h --reason maintenance",
        "connectorctl lock team-a/prod --reason maintenance --source ./connectors",
    ),
)
@click.argument("connector", metavar="[NAMESPACE/CONNECTOR]", required=False, type=ConnectorKeyParam())
@click.option("--all", "is_for_all", is_flag=True, help="Lock all Connectors of all namespaces, or of --namespace.")
@click.option("-n", "--namespace", type=NAMESPACE_PARAM, help="Namespace of the Connectors, for --all.")
@click.option(
    "--user", "users", multiple=True, type=USER_PARAM, help="User name to lock out. Repeatable. Default: all callers."
)
@click.option("--group", "groups", multiple=True, type=GROUP_PARAM, help="Group to lock out. Repeatable.")
@click.option("--reason", required=True, type=REASON_PARAM, help="Reason, for the callers and the audit log.")
@make_duration_option("Duration of the lock: 30m, 2h. Default: until you remove it.")
@add_format_option("json", "yaml")
@add_access_source_options
@click.pass_obj
def command(
    invocation: Invocation,
    connector: ObjectKey | None,
    is_for_all: bool,
    namespace: str | None,
    users: Sequence[str],
    groups: Sequence[str],
    reason: str,
    duration: int | None,
    form: str | None,
    source_options: SourceOptions,
) -> None:
    """Lock callers out of Connectors, whatever other objects allow.

    Proxies refuse their new requests, and close their live connections. The Connector need not exist yet. With a folder
    as --source, the command writes a manifest there.
    """
    if (connector is None) != is_for_all:
        raise click.UsageError("name one Connector as NAMESPACE/NAME, or write --all")
    if namespace is not None and not is_for_all:
        raise click.UsageError("--namespace: goes with --all; leave it out")
    until = format_time(datetime.now(UTC) + timedelta(seconds=duration)) if duration is not None else None
    manifest = make_lock(
        connector.namespace if connector is not None else namespace or invocation.settings.system_namespace,
        connector.name if connector is not None else None,
        users=users,
        groups=groups,
        reason=reason,
        until=until,
    )
    source = resolve_lock_source(source_options, invocation)
    if not users and not groups:
        print_message("warning: the lock is for all callers, so it locks you out, too")
    if isinstance(source, FolderSource):
        _write_file(Path(source.path), manifest)
        is_absent = connector is not None and _is_absent_in_folder(Path(source.path), connector, invocation.settings)
    else:
        manifest, is_absent = run_in_cluster(
            source_options, invocation, lambda client: _create(client, manifest, users, groups, connector)
        )
    key = _key(manifest)
    if form is not None:
        write_value(manifest, form)
    else:
        write(f"{ACCESS_LOCKS} {key} created\n")
    options = ("--source", source.path) if isinstance(source, FolderSource) else source_options.cluster_arguments()
    if connector is not None and is_absent:
        names = shlex.join(["connectorctl", "status", "--namespace", connector.namespace, *options])
        print_message(
            f"warning: Connector {connector} does not exist; the lock applies when it is created; "
            f"compare the name with: {names}"
        )
    if not isinstance(source, FolderSource):
        print_message(DELAY_NOTE)
    print_message(f"to remove it: {shlex.join(['connectorctl', 'unlock', str(key), *options])}")


async def _create(
    client: KubeClient,
    manifest: dict[str, Any],
    users: Sequence[str],
    groups: Sequence[str],
    connector: ObjectKey | None,
) -> tuple[dict[str, Any], bool]:
    """Create the lock. Return it, and whether `connector` does not exist."""
    author = await get_author(client)
    if _hits(author, users, groups):
        print_message(f"warning: the lock is for {author.user}, so it locks you out, too")
    created = await create(client, ACCESS_LOCKS, manifest)
    return created, connector is not None and await _is_absent(client, connector)


async def _is_absent(client: KubeClient, connector: ObjectKey) -> bool:
    """Return True if there is no such Connector. If it cannot be read, return False."""
    try:
        await client.get(CONNECTORS.path(*connector))
    except ApiError as error:
        return error.status == HTTPStatus.NOT_FOUND
    return False


def _is_absent_in_folder(folder: Path, connector: ObjectKey, settings: Settings) -> bool:
    from connectorctl.folder_source import load_store  # imports cryptography

    return load_store(folder, settings).connector(connector) is None


def _hits(author: Author, users: Sequence[str], groups: Sequence[str]) -> bool:
    return author.user in users or not author.groups.isdisjoint(groups)


def lock_file(folder: Path, key: ObjectKey) -> Path:
    """Return the path of a lock's manifest in a folder. A namespace has no dot, so each lock has its own path."""
    return folder / f"lock-{key.namespace}.{key.name}.yaml"


def _key(manifest: dict[str, Any]) -> ObjectKey:
    return ObjectKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _write_file(folder: Path, manifest: dict[str, Any]) -> None:
    if not folder.is_dir():
        raise missing_folder_error(folder)
    create_private(lock_file(folder, _key(manifest)), render_value(manifest, "yaml"))
