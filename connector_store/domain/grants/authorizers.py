"""Order of the authorizers of the right to use a Connector.

Only an authorizer without an opinion passes the caller on to the next one. A denial and a check that cannot run end the
chain. If no authorizer has an opinion, the caller is refused.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from connector_store.domain.callers.access import AccessResult, Granted, Refused
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.grants.access_index import NO_ENTITLEMENT, Entitlement


class Authorization(NamedTuple):
    """Result of the chain. `grant` is the access grant that allows the use, if no other authorizer does."""

    access: AccessResult
    grant: AccessGrant | None = None


Authorizer = Callable[[AccessResult, Granted | None, Entitlement], Authorization | None]
"""Gets the API server's result, and the caller if the API server has no opinion. Returns a result, or None for no
opinion."""


def authorize(access: AccessResult, entitlement: Entitlement = NO_ENTITLEMENT) -> Authorization:
    """Run AUTHORIZERS on the API server's result and on what policies and requests give to the caller."""
    caller = access.authentication if isinstance(access, Refused) else None
    for _, authorizer in AUTHORIZERS:
        result = authorizer(access, caller, entitlement)
        if result is not None:
            return result
    return Authorization(access)


def _by_rbac(access: AccessResult, caller: Granted | None, entitlement: Entitlement) -> Authorization | None:
    return Authorization(access) if caller is None else None


def _by_default_permission(
    access: AccessResult, caller: Granted | None, entitlement: Entitlement
) -> Authorization | None:
    return Authorization(caller) if caller is not None and entitlement.policy else None


def _by_request(access: AccessResult, caller: Granted | None, entitlement: Entitlement) -> Authorization | None:
    return Authorization(caller, entitlement.grants[0]) if caller is not None and entitlement.grants else None


AUTHORIZERS: Final[tuple[tuple[str, Authorizer], ...]] = (
    ("rbac", _by_rbac),
    ("default permission", _by_default_permission),
    ("access request", _by_request),
)
"""Authorizers in their order: `use` by the API server, defaultPermission of an AccessPolicy, an approved request."""
