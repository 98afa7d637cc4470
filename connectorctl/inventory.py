"""Inventory of a source: the store that a proxy would have, and the controller's conditions if it has any."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base import rfc3339
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.example_values import example_problem
from connector_store.domain.objects.models import Connector, InvalidConnector, Target, Unusable
from connector_store.domain.permissions.permissions import Permissions
from connector_store.domain.status.status import Condition
from connector_store.store import Store

MAX_NAMES: Final = 10
"""Maximum number of Connectors that an error lists."""


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
    auth: str | None = None
    """Auth type that the Connector names."""
    allows: str = ""
    """`all`, `all but denied` or `roles`: what the permissions allow. Empty for an invalid Connector."""
    impersonates: bool = False
    reason: str = ""
    message: str = ""


def not_found_error(store: Store, key: ObjectKey) -> ParseError:
    """Return the error for a Connector that `store` does not have, with the names of those that it has."""
    keys = sorted(connector.key for connector in store.connectors())
    names = ", ".join([*map(str, keys[:MAX_NAMES]), *(["…"] if len(keys) > MAX_NAMES else [])]) or "no Connector"
    return ParseError(
        "",
        f'connectors.connectors.alauda.io "{key.name}" not found in namespace "{key.namespace}"; there is: {names}',
    )


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
        auth=connector.auth_name if isinstance(connector, Connector) else None,
        allows=_describe_permissions(connector) if isinstance(connector, Connector) else "",
        impersonates=isinstance(connector, Connector) and connector.impersonation is not None,
        reason=reason,
        message=message,
    )


def row_document(row: Row) -> dict[str, object]:
    """Return a row as plain data."""
    return {
        "namespace": row.connector.namespace,
        "name": row.connector.name,
        "address": row.address,
        "usable": row.usable,
        "ready": row.ready,
        "expires": rfc3339.format_unix_time(row.expires) if row.expires is not None else None,
        "auth": row.auth,
        "allows": row.allows,
        "impersonates": row.impersonates,
        "reason": row.reason,
        "message": row.message,
    }


def _describe_permissions(connector: Connector) -> str:
    permissions = connector.permissions or Permissions(allow=None)
    roles = "roles" if permissions.allow is not None else "all but denied" if permissions.deny else "all"
    extras = {
        "masked": permissions.restrictions.masks_secrets,
        "dry run": permissions.restrictions.dry_run,
        "limited": connector.limits is not None,
    }
    return ", ".join([roles, *(extra for extra, applies in extras.items() if applies)])


def _credential_expiry(store: Store, key: ObjectKey) -> float | None:
    target = store.get(key)
    return target.credential.expires_at if isinstance(target, Target) and target.credential is not None else None


def _usability(
    store: Store, connector: Connector | InvalidConnector, condition: Condition | None
) -> tuple[bool, str, str]:
    match store.get(connector.key):
        case Target() as target if (problem := example_problem(target)) is not None:
            return False, "ExampleValue", problem
        case Target() if condition is not None and condition.status != "True":
            return True, condition.reason, condition.message
        case Target():
            return True, "", ""
        case Unusable(reason=reason, message=message):
            return False, reason, message
        case None:
            message = f"class {connector.class_name} has no supported auth type, so another program must serve it"
            return False, "NotOurs", message
