"""Where a command takes Connectors from, and what each kind of source demands of the arguments."""

from dataclasses import replace
from typing import Final

from connector_store.domain.errors import ParseError
from connector_store.domain.source import Cluster, Folder, parse_source
from connectorctl.arguments import Arguments

SHORTEST: Final = 600
"""Seconds; a TokenRequest gives no shorter token (k8s.io/api/authentication/v1)."""


def choose_origin(arguments: Arguments, *, plugin: bool, in_pod: bool) -> Folder | Cluster:
    """The source of `arguments`; ParseError if they do not fit together.

    `auto` is the cluster for a kubectl plugin, and where a flag for clusters is given.
    """
    auto_is_cluster = in_pod or plugin or _cluster_flags(arguments) != []
    try:
        source = parse_source(arguments.source, in_pod=auto_is_cluster)
    except ParseError as error:
        raise ParseError("--source", error.reason) from error
    if isinstance(source, Folder):
        if _cluster_flags(arguments):
            raise ParseError(_cluster_flags(arguments)[0], "is for clusters; leave it out, or use --source kubernetes")
        return source
    _check_cluster(arguments)
    return replace(source, context=arguments.context) if arguments.context is not None else source


def _cluster_flags(arguments: Arguments) -> list[str]:
    flags = {
        "--kubeconfig": arguments.kubeconfig,
        "--context": arguments.context,
        "--service-account": arguments.service_account,
    }
    return [name for name, value in flags.items() if value is not None]


def _check_cluster(arguments: Arguments) -> None:
    if arguments.command == "status":
        return
    if arguments.service_account is None:
        raise ParseError("--service-account", "is missing; name the NAMESPACE/NAME whose token to ask the cluster for")
    if arguments.ttl < SHORTEST:
        raise ParseError("--ttl", "is shorter than 10m, the least that a cluster gives")
