"""What is seen of a source: the store that a proxy would have, and the controller's opinion where there is one."""

from collections.abc import Mapping
from dataclasses import dataclass

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Connector, InvalidConnector, Target, Unusable
from connector_store.domain.status.status import Condition
from connector_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """`ready` has the condition of that type of each Connector; None where nobody writes any, as in a folder."""

    store: Store
    ready_conditions: Mapping[ObjectKey, Condition] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One Connector. `usable` is what the proxy makes of it, `ready` the controller's opinion (None: it has none).

    `expires` is when what its Secret holds ends, in unix seconds; None where that is not known.

    `reason` and `message` say why the proxy cannot use it, else why the controller thinks that it will not work.
    """

    connector: ObjectKey
    address: str | None
    usable: bool
    ready: str | None = None
    expires: float | None = None
    reason: str = ""
    message: str = ""


def build_rows(inventory: Inventory, namespace: str | None) -> list[Row]:
    """Of `namespace` (None: all), in order of name."""
    connectors = sorted(inventory.store.connectors(), key=lambda each: each.key)
    return [_build_row(inventory, each) for each in connectors if namespace in (None, each.key.namespace)]


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
