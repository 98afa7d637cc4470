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


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerOptions:
    """Options of a caller's token: that of a ServiceAccount, or one signed with the proxy's key in `confdir`.

    `ttl` is in seconds.
    """

    service_account: ObjectKey | None = None
    ttl: int = 30 * 60
    confdir: Path | None = None
