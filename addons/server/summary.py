"""Summary that a proxy logs when it is ready: served Connectors, problems, listen addresses, and the next step."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from connector_store.domain.objects.example_values import example_problem
from connector_store.domain.objects.models import Target
from connector_store.store import Store

DEFAULT_CONFDIR: Final = Path("~/.mitmproxy")
"""Default of mitmproxy's option `confdir`, which connectorctl also uses."""
DEFAULT_URL: Final = "http://127.0.0.1:8080"
"""Proxy that connectorctl uses by default."""


def format_summary(
    source: FolderSource | ClusterSource, store: Store, listening: Iterable[tuple[str | int, ...]], *, confdir: Path
) -> str:
    """Return the summary as one line. `listening` contains the addresses of the proxy's sockets.

    The commands in it work as they are: they name the first usable Connector, and the confdir and the proxy if these
    are not the defaults. For a cluster, only the caller's ServiceAccount is a placeholder.
    """
    resolved = [store.get(each.key) for each in store.connectors()]
    targets = [each for each in resolved if each is not None]
    usable = [each for each in targets if isinstance(each, Target) and example_problem(each) is None]
    problem_count = len(targets) - len(usable)
    # An IPv6 socket for all addresses is listed next to an IPv4 socket on the same port.
    ports = dict.fromkeys(f"http://{_host(str(each[0]))}:{each[1]}" for each in listening)
    name = str(min((each.key for each in usable), default="NAMESPACE/NAME"))
    check_command, kubeconfig_command = _commands(source, name, [*ports], confdir)
    parts = [
        f"serving {_count(len(usable), 'Connector')} of {_source_name(source)}",
        f"{_count(problem_count, 'problem')} to fix ({check_command})" if problem_count else "no problems",
        f"listening at {', '.join(ports) or 'no port'}",
        f"for a kubeconfig: {kubeconfig_command}",
    ]
    if isinstance(source, FolderSource):
        parts.append("targets may be anywhere that targets-deny does not name")
    return "; ".join(parts)


def _commands(source: FolderSource | ClusterSource, name: str, urls: Sequence[str], confdir: Path) -> tuple[str, str]:
    if isinstance(source, FolderSource):
        options = ["--source", source.path]
        if confdir != DEFAULT_CONFDIR.expanduser():
            options += ["--confdir", str(confdir)]
        if urls and DEFAULT_URL not in urls:
            options += ["--proxy", urls[0].replace("*", "127.0.0.1")]
        return shlex.join(("connectorctl", "check", source.path)), f"connectorctl kubeconfig {name} " + shlex.join(
            options
        )
    cluster = "kubernetes" if source.context is None else f"kubernetes:{source.context}"
    options = ["--source", cluster, "--service-account", "NAMESPACE/NAME"]
    return "kubectl get connectors --all-namespaces", f"connectorctl kubeconfig {name} " + shlex.join(options)


def _source_name(source: FolderSource | ClusterSource) -> str:
    if isinstance(source, FolderSource):
        return f"folder {source.path}"
    return f"the cluster of context {source.context}" if source.context else "the cluster"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _host(address: str) -> str:
    if address in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound
        return "*"
    return f"[{address}]" if ":" in address else address
