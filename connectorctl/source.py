"""Choice of the source that a command reads, and checks of the options for that source."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import DEFAULT_FOLDER, ClusterSource, FolderSource, parse_source
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
        _check_folder_options(caller_options)
        return source
    _check_cluster_options(caller_options)
    return replace(source, context=source_options.context) if source_options.context is not None else source


def resolve_lock_source(source_options: SourceOptions, invocation: Invocation) -> FolderSource | ClusterSource:
    """Return the source of a lock. Raises click.UsageError if a folder is there and no option chooses.

    Other commands would use that folder. A lock in the wrong place locks no caller out of the right one.
    """
    source = resolve_source(source_options, invocation)
    is_default = click.get_current_context().get_parameter_source("source") is ParameterSource.DEFAULT
    has_choice = not is_default or source_options.kubeconfig is not None or source_options.context is not None
    if not has_choice and not invocation.prefers_cluster and Path(DEFAULT_FOLDER).is_dir():
        raise click.UsageError(
            f"there is a folder {DEFAULT_FOLDER}; write --source {DEFAULT_FOLDER} or --source kubernetes"
        )
    return source


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


def _check_folder_options(caller_options: CallerOptions | None) -> None:
    if caller_options is None:
        return
    from connector_store.folder.signing_key import MAX_TTL, parse_caller_name  # imports cryptography

    if caller_options.as_caller is not None:
        try:
            parse_caller_name(caller_options.as_caller)
        except ParseError as error:
            raise click.UsageError(f"--as-caller: {error.reason}") from error
    if caller_options.ttl > MAX_TTL:
        raise click.UsageError("--ttl: is longer than 24h, the maximum lifetime of a token of a folder's proxy")


def _check_cluster_options(caller_options: CallerOptions | None) -> None:
    if caller_options is None:
        return
    if caller_options.service_account is None:
        raise click.UsageError(
            "--service-account: is missing; name the ServiceAccount whose token to request, as NAMESPACE/NAME"
        )
    if caller_options.as_caller is not None:
        raise click.UsageError("--as-caller: is for folders; in a cluster, the ServiceAccount is the caller")
    if caller_options.ttl < MIN_CLUSTER_TTL:
        raise click.UsageError("--ttl: is shorter than 10m, the minimum lifetime of a token of a cluster")
