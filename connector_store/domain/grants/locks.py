"""Locks: who is locked out of a Connector, whatever policies, requests and RBAC allow."""

from collections.abc import Iterable

from connector_store.domain.callers.access import Identity
from connector_store.domain.objects.access_objects import AccessLock
from connector_store.domain.objects.models import Connector


def applies_to(lock: AccessLock, connector: Connector, system_namespace: str) -> bool:
    """Return True if the lock is for the Connector.

    A lock in `system_namespace` holds for all namespaces, another one for its own. Secrets and addresses find copies of
    a Connector, too. A lock with a problem has no limits.
    """
    key = connector.key
    return (
        lock.key.namespace in (system_namespace, key.namespace)
        and lock.connector.matches(key.name, connector.labels)
        and (not lock.secret_names or connector.secret_name in lock.secret_names)
        and (not lock.addresses or connector.address.authority in lock.addresses)
    )


def find_lock(
    locks: Iterable[AccessLock], identity: Identity, now: float, *, exempt_group: str = ""
) -> AccessLock | None:
    """Return the first of a Connector's locks that holds for the caller at `now`, the API server's time.

    Members of `exempt_group` are never locked out.
    """
    if exempt_group and exempt_group in identity.groups:
        return None
    return next((lock for lock in locks if _holds_for(lock, identity, now)), None)


def is_in_force(lock: AccessLock, now: float) -> bool:
    """Return True if the lock has not ended at `now`, the API server's time."""
    return lock.until is None or now < lock.until


def _holds_for(lock: AccessLock, identity: Identity, now: float) -> bool:
    if not is_in_force(lock, now):
        return False
    is_for_all = not lock.users and not lock.groups
    return is_for_all or identity.user in lock.users or not lock.groups.isdisjoint(identity.groups)
