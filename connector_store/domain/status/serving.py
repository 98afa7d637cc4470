"""Why Connectors of a namespace, or all of them, are not served at the moment, whatever is known of them.

>>> not_named("team-c").message
'namespace "team-c" is not served; add it to namespaces in ConfigMap connectors-config, and bind the roles there'
"""

from dataclasses import dataclass
from typing import Final

from connector_store.domain.config.settings import CONFIG_MAP

NAMESPACE_NOT_SERVED: Final = "NamespaceNotServed"
NOT_WATCHED: Final = "NotWatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotServed:
    """`reason` and `message` as of a condition; `cut`: what runs already is ended too."""

    reason: str
    message: str
    closes_connections: bool = False


def namespace_not_configured(namespace: str) -> NotServed:
    """The setting `namespaces` leaves it out."""
    return NotServed(
        reason=NAMESPACE_NOT_SERVED,
        message=f'namespace "{namespace}" is not served; '
        f"add it to namespaces in ConfigMap {CONFIG_MAP}, and bind the roles there",
        closes_connections=True,
    )


def namespace_not_readable(namespace: str) -> NotServed:
    """The setting `namespaces` has it, and the API server does not let us read it."""
    return NotServed(
        reason=NAMESPACE_NOT_SERVED,
        message=f'namespace "{namespace}" is not served: its Connectors and Secrets may not be read; '
        "bind the roles of deploy/components/namespaced there, "
        f"or take it out of namespaces in ConfigMap {CONFIG_MAP}",
        closes_connections=True,
    )


def not_watched(kind: str, seconds: float, *, refused: bool) -> NotServed:
    """What is known of objects of `kind` is older than `stale-after`; `refused`: the API server answers, and says no.

    While the API server is away nobody new can be checked anyway, and what runs goes on.
    """
    return NotServed(
        reason=NOT_WATCHED,
        message=f"what is known of objects of kind {kind} is more than {seconds:.0f} s old: "
        "they cannot be watched; the log says why",
        closes_connections=refused,
    )
