"""Reasons why the Connectors of a namespace, or all Connectors, are not served at the moment.

>>> namespace_not_configured("team-c").message
'namespace "team-c" is not served; add it to namespaces in ConfigMap connectors-config, and bind the roles there'
"""

from dataclasses import dataclass
from typing import Final

from connector_store.domain.config.settings import CONFIG_MAP

NAMESPACE_NOT_SERVED: Final = "NamespaceNotServed"
NOT_WATCHED: Final = "NotWatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotServed:
    """Reason and message as in a condition. `closes_connections`: live connections are closed, too."""

    reason: str
    message: str
    closes_connections: bool = False


def namespace_not_configured(namespace: str) -> NotServed:
    """Return the reason for a namespace that is not in the setting `namespaces`."""
    return NotServed(
        reason=NAMESPACE_NOT_SERVED,
        message=f'namespace "{namespace}" is not served; '
        f"add it to namespaces in ConfigMap {CONFIG_MAP}, and bind the roles there",
        closes_connections=True,
    )


def namespace_not_readable(namespace: str) -> NotServed:
    """Return the reason for a namespace in the setting `namespaces` that the API server does not let us read."""
    return NotServed(
        reason=NAMESPACE_NOT_SERVED,
        message=f'namespace "{namespace}" is not served: its Connectors and Secrets may not be read; '
        "bind the roles of deploy/components/namespaced there, "
        f"or take it out of namespaces in ConfigMap {CONFIG_MAP}",
        closes_connections=True,
    )


def not_watched(kind: str, seconds: float, *, refused: bool) -> NotServed:
    """Return the reason for objects of `kind` that are older than `stale-after`: `seconds`.

    `refused`: the API server refuses the watch, so live connections are closed. They stay open if the API server is
    down. New callers cannot be checked then anyway.
    """
    return NotServed(
        reason=NOT_WATCHED,
        message=f"the data about objects of kind {kind} is more than {seconds:.0f} s old, "
        "because the watch fails; the log says why",
        closes_connections=refused,
    )
