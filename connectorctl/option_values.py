"""Values of the options that several commands share. `options` has the options themselves."""

from dataclasses import dataclass
from pathlib import Path

from connector_store.domain.base.names import ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Options that select the source of Connectors."""

    source: str = "auto"
    kubeconfig: str | None = None
    context: str | None = None

    def cluster_arguments(self) -> tuple[str, ...]:
        """Return the options that were given for a cluster, for a command that uses the same one."""
        values = (("--source", self.source), ("--kubeconfig", self.kubeconfig), ("--context", self.context))
        return tuple(word for name, value in values if value not in (None, "auto") for word in (name, str(value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerOptions:
    """Options of a caller's token: that of a ServiceAccount, or one signed with the proxy's key in `confdir`.

    `ttl` is in seconds. `as_caller` is the caller's name in a token of the proxy's key.
    """

    service_account: ObjectKey | None = None
    ttl: int = 30 * 60
    confdir: Path | None = None
    as_caller: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Connectors to show: of one namespace, or one Connector. By default all."""

    namespace: str | None = None
    key: ObjectKey | None = None

    def includes(self, connector: str) -> bool:
        """Return True if the Connector, NAMESPACE/NAME, is to be shown."""
        if self.key is not None and connector != str(self.key):
            return False
        return self.namespace is None or connector.partition("/")[0] == self.namespace
