"""Choice of the source that a command reads, and checks of the options for that source."""

from dataclasses import replace
from typing import Final

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import ClusterSource, FolderSource, parse_source
from connector_store.folder.caller_tokens import MAX_TTL
from connectorctl.invocation import Invocation
from connectorctl.option_values import CallerOptions, SourceOptions

MIN_CLUSTER_TTL: Final = 600
"""Seconds. A TokenRequest returns no shorter token (k8s.io/api/authentication/v1)."""


def resolve_source(
    source_options: SourceOptions, invocation: Invocation, caller_options: CallerOptions | None = None
) -> FolderSource | ClusterSource:
    """Return the source that the options select. Raises click.UsageError if the options contradict each other.

    `auto` is the cluster for a kubectl plugin, in a pod, and with an option for clusters. Commands that issue a token
    pass `caller_options`.
    """
    flags = _cluster_flags(source_options, caller_options)
    try:
        source = parse_source(source_options.source, in_pod=invocation.prefers_cluster or flags != [])
    except ParseError as error:
        raise click.UsageError(f"--source: {error.reason}") from error
    if isinstance(source, FolderSource):
        if flags:
            raise click.UsageError(f"{flags[0]}: is for clusters; leave it out, or use --source kubernetes")
        if caller_options is not None and caller_options.ttl > MAX_TTL:
            raise click.UsageError("--ttl: is longer than 24h, the most that a token of a folder's proxy lasts")
        return source
    _check_cluster_options(caller_options)
    return replace(source, context=source_options.context) if source_options.context is not None else source


def is_cluster(source_options: SourceOptions, invocation: Invocation, caller_options: CallerOptions) -> bool:
    """Return True if the source is a cluster."""
    return isinstance(resolve_source(source_options, invocation, caller_options), ClusterSource)


def _cluster_flags(source_options: SourceOptions, caller_options: CallerOptions | None) -> list[str]:
    flags = {
        "--kubeconfig": source_options.kubeconfig,
        "--context": source_options.context,
        "--service-account": caller_options.service_account if caller_options is not None else None,
    }
    return [name for name, value in flags.items() if value is not None]


def _check_cluster_options(caller_options: CallerOptions | None) -> None:
    if caller_options is None:
        return
    if caller_options.service_account is None:
        raise click.UsageError(
            "--service-account: is missing; name the NAMESPACE/NAME whose token to ask the cluster for"
        )
    if caller_options.ttl < MIN_CLUSTER_TTL:
        raise click.UsageError("--ttl: is shorter than 10m, the least that a cluster gives")
