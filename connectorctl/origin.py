"""Where a command takes Connectors from, and what each kind of source demands of the options."""

from dataclasses import replace
from typing import Final

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.source import ClusterSource, FolderSource, parse_source
from connector_store.folder.access import MAX_TTL
from connectorctl.options import Caller, Where
from connectorctl.situation import Situation

SHORTEST: Final = 600
"""Seconds; a TokenRequest gives no shorter token (k8s.io/api/authentication/v1)."""


def choose_origin(where: Where, situation: Situation, caller: Caller | None = None) -> FolderSource | ClusterSource:
    """The source of `where`; click's UsageError if the options do not fit together.

    `auto` is the cluster for a kubectl plugin, in a pod, and where an option for clusters is given. `caller` is given
    by commands that make a token.
    """
    flags = _cluster_flags(where, caller)
    try:
        source = parse_source(where.source, in_pod=situation.prefers_cluster or flags != [])
    except ParseError as error:
        raise click.UsageError(f"--source: {error.reason}") from error
    if isinstance(source, FolderSource):
        if flags:
            raise click.UsageError(f"{flags[0]}: is for clusters; leave it out, or use --source kubernetes")
        if caller is not None and caller.ttl > MAX_TTL:
            raise click.UsageError("--ttl: is longer than 24h, the most that a token of a folder's proxy lasts")
        return source
    _check_cluster(caller)
    return replace(source, context=where.context) if where.context is not None else source


def is_cluster(where: Where, situation: Situation, caller: Caller) -> bool:
    """Whether the source is a cluster."""
    return isinstance(choose_origin(where, situation, caller), ClusterSource)


def _cluster_flags(where: Where, caller: Caller | None) -> list[str]:
    flags = {
        "--kubeconfig": where.kubeconfig,
        "--context": where.context,
        "--service-account": caller.service_account if caller is not None else None,
    }
    return [name for name, value in flags.items() if value is not None]


def _check_cluster(caller: Caller | None) -> None:
    if caller is None:
        return
    if caller.service_account is None:
        raise click.UsageError(
            "--service-account: is missing; name the NAMESPACE/NAME whose token to ask the cluster for"
        )
    if caller.ttl < SHORTEST:
        raise click.UsageError("--ttl: is shorter than 10m, the least that a cluster gives")
