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
class Withheld:
    """`reason` and `message` as of a condition; `cut`: what runs already is ended too."""

    reason: str
    message: str
    cut: bool = False


def not_named(namespace: str) -> Withheld:
    """The setting `namespaces` leaves it out."""
    return Withheld(
        reason=NAMESPACE_NOT_SERVED,
        message=f'namespace "{namespace}" is not served; '
        f"add it to namespaces in ConfigMap {CONFIG_MAP}, and bind the roles there",
        cut=True,
    )


def not_bound(namespace: str) -> Withheld:
    """The setting `namespaces` has it, and the API server does not let us read it."""
    return Withheld(
        reason=NAMESPACE_NOT_SERVED,
        message=f'namespace "{namespace}" is not served: its Connectors and Secrets may not be read; '
        "bind the roles of deploy/components/namespaced there, "
        f"or take it out of namespaces in ConfigMap {CONFIG_MAP}",
        cut=True,
    )


def not_watched(kind: str, seconds: float, *, refused: bool) -> Withheld:
    """What is known of objects of `kind` is older than `stale-after`; `refused`: the API server answers, and says no.

    While the API server is away nobody new can be checked anyway, and what runs goes on.
    """
    return Withheld(
        reason=NOT_WATCHED,
        message=f"what is known of objects of kind {kind} is more than {seconds:.0f} s old: "
        "they cannot be watched; the log says why",
        cut=refused,
    )
