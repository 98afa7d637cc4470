"""Inventory of a source: the store that a proxy would have, and the controller's conditions if it has any."""

from collections.abc import Mapping
from dataclasses import dataclass

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Connector, InvalidConnector, Target, Unusable
from connector_store.domain.status.status import Condition
from connector_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Connectors of a source. `ready_conditions` is None if no controller writes them, as in a folder."""

    store: Store
    ready_conditions: Mapping[ObjectKey, Condition] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One Connector. `usable` is the proxy's result, `ready` the controller's (None: it has none).

    `expires` is the expiry of the credential in its Secret in unix seconds, or None if unknown. `reason` and `message`
    say why the proxy cannot use it, or else why the controller reports a problem.
    """

    connector: ObjectKey
    address: str | None
    usable: bool
    ready: str | None = None
    expires: float | None = None
    reason: str = ""
    message: str = ""


def build_rows(inventory: Inventory, namespace: str | None) -> list[Row]:
    """Return the rows of `namespace` (None: all), in order of name."""
    connectors = sorted(inventory.store.connectors(), key=lambda connector: connector.key)
    return [
        _build_row(inventory, connector) for connector in connectors if namespace in (None, connector.key.namespace)
    ]


def _build_row(inventory: Inventory, connector: Connector | InvalidConnector) -> Row:
    condition = (inventory.ready_conditions or {}).get(connector.key)
    usable, reason, message = _usability(inventory.store, connector, condition)
    return Row(
        connector=connector.key,
        address=str(connector.address) if isinstance(connector, Connector) else None,
        usable=usable,
        ready=condition.status if condition is not None else None,
        expires=_credential_expiry(inventory.store, connector.key),
        reason=reason,
        message=message,
    )


def _credential_expiry(store: Store, key: ObjectKey) -> float | None:
    target = store.get(key)
    return target.credential.expires_at if isinstance(target, Target) and target.credential is not None else None


def _usability(
    store: Store, connector: Connector | InvalidConnector, condition: Condition | None
) -> tuple[bool, str, str]:
    match store.get(connector.key):
        case Target() if condition is not None and condition.status != "True":
            return True, condition.reason, condition.message
        case Target():
            return True, "", ""
        case Unusable(reason=reason, message=message):
            return False, reason, message
        case None:
            message = f"class {connector.class_name} authenticates by something else than what is served here"
            return False, "NotOurs", message
