"""Source of Connectors: the option `connector_source` of the proxy, and `--source` of connectorctl.

>>> parse_source("auto", in_pod=False)
FolderSource(path='connectors')
>>> parse_source("kubernetes:prod", in_pod=False)
ClusterSource(context='prod')
"""

from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.errors import ParseError

DEFAULT_FOLDER: Final = "connectors"
_CLUSTER: Final = "kubernetes"


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of manifests. It can be created later."""

    path: str


@dataclass(frozen=True, slots=True)
class ClusterSource:
    """An API server.

    `context` is a context of the kubeconfig. None means the cluster of the pod, or the current context outside a pod.
    """

    context: str | None = None


def parse_source(text: str, *, in_pod: bool) -> FolderSource | ClusterSource:
    """Parse `auto`, `kubernetes`, `kubernetes:CONTEXT` or the path of a folder."""
    if text == "auto":
        return ClusterSource() if in_pod else FolderSource(DEFAULT_FOLDER)
    kind, colon, context = text.partition(":")
    if kind == _CLUSTER and colon and not context:
        raise ParseError("", "names no context after the colon; write kubernetes:CONTEXT")
    if kind == _CLUSTER:
        return ClusterSource(context or None)
    if not text:
        raise ParseError("", "is empty; write auto, kubernetes, kubernetes:CONTEXT or a folder")
    return FolderSource(text)
