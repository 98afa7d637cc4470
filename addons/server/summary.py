"""Summary that a proxy logs when it is ready: served Connectors, problems, listen addresses, and the next step."""

from collections.abc import Iterable

from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from connector_store.domain.objects.models import Target
from connector_store.store import Store


def format_summary(
    source: FolderSource | ClusterSource, store: Store, listening: Iterable[tuple[str | int, ...]]
) -> str:
    """Return the summary as one line. `listening` contains the addresses of the proxy's sockets."""
    resolved = [store.get(each.key) for each in store.connectors()]
    targets = [each for each in resolved if each is not None]
    unusable_count = sum(not isinstance(each, Target) for each in targets)
    check_command, kubeconfig_command = _commands(source)
    # An IPv6 socket for all addresses is listed next to an IPv4 socket on the same port.

    ports = dict.fromkeys(f"http://{_host(str(each[0]))}:{each[1]}" for each in listening)
    parts = [
        f"serving {_count(len(targets) - unusable_count)} of {_source_name(source)}",
        f"{unusable_count} to mend ({check_command})" if unusable_count else "nothing to mend",
        f"listening at {', '.join(ports) or 'no port'}",
        f"for a kubeconfig: {kubeconfig_command}",
    ]
    if isinstance(source, FolderSource):
        parts.append("targets may be anywhere that targets-deny does not name")
    return "; ".join(parts)


def _commands(source: FolderSource | ClusterSource) -> tuple[str, str]:
    if isinstance(source, FolderSource):
        return (
            f"connectorctl check {source.path}",
            f"connectorctl kubeconfig NAMESPACE/NAME --source {source.path}",
        )
    return "kubectl get connectors --all-namespaces", "connectorctl kubeconfig NAMESPACE/NAME"


def _source_name(source: FolderSource | ClusterSource) -> str:
    if isinstance(source, FolderSource):
        return f"folder {source.path}"
    return f"the cluster of context {source.context}" if source.context else "the cluster"


def _count(number: int) -> str:
    return f"{number} Connector" if number == 1 else f"{number} Connectors"


def _host(address: str) -> str:
    if address in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound
        return "*"
    return f"[{address}]" if ":" in address else address
