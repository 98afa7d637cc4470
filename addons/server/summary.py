"""Summary that a proxy logs when it is ready: served Connectors, problems, listen addresses, and the next step."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from connector_store.domain.credential.placeholder import is_example_host, is_placeholder
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

    The commands in it work as they are: they name the confdir and the proxy if these are not the defaults.
    """
    resolved = [store.get(each.key) for each in store.connectors()]
    targets = [each for each in resolved if each is not None]
    unusable_count = sum(not isinstance(each, Target) for each in targets)
    problem_count = unusable_count + sum(isinstance(each, Target) and _is_example(each) for each in targets)
    # An IPv6 socket for all addresses is listed next to an IPv4 socket on the same port.
    ports = dict.fromkeys(f"http://{_host(str(each[0]))}:{each[1]}" for each in listening)
    check_command, kubeconfig_command = _commands(source, [*ports], confdir)
    parts = [
        f"serving {_count(len(targets) - unusable_count, 'Connector')} of {_source_name(source)}",
        f"{_count(problem_count, 'problem')} to fix ({check_command})" if problem_count else "no problems",
        f"listening at {', '.join(ports) or 'no port'}",
        f"for a kubeconfig: {kubeconfig_command}",
    ]
    if isinstance(source, FolderSource):
        parts.append("targets may be anywhere that targets-deny does not name")
    return "; ".join(parts)


def _is_example(target: Target) -> bool:
    """Return True if `connectorctl check` reports the token or the address as an example that was not replaced."""
    authorization = target.credential.authorization if target.credential is not None else None
    token = authorization.removeprefix(b"Bearer ").decode("ascii") if authorization is not None else ""
    return is_placeholder(token) or is_example_host(target.address.host)


def _commands(source: FolderSource | ClusterSource, urls: Sequence[str], confdir: Path) -> tuple[str, str]:
    if isinstance(source, FolderSource):
        options = ["--source", source.path]
        if confdir != DEFAULT_CONFDIR.expanduser():
            options += ["--confdir", str(confdir)]
        if urls and DEFAULT_URL not in urls:
            options += ["--proxy", urls[0].replace("*", "127.0.0.1")]
        return shlex.join(
            ("connectorctl", "check", source.path)
        ), "connectorctl kubeconfig NAMESPACE/NAME " + shlex.join(options)
    return "kubectl get connectors --all-namespaces", "connectorctl kubeconfig NAMESPACE/NAME"


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
