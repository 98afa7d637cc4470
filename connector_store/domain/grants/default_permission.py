"""Default permission: the ServiceAccounts that a policy lets use its Connectors without a request."""

from collections.abc import Callable, Iterable

from connector_store.domain.base.label_selector import Labels
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX, Identity
from connector_store.domain.grants.access_grant import applies
from connector_store.domain.objects.access_objects import AccessPolicy, AccountSelector
from connector_store.domain.objects.models import Connector

LabelLookup = Callable[[str], Labels | None]
"""Return the labels of a namespace, or None if they are not known."""


def find_default_policy(
    policies: Iterable[AccessPolicy], connector: Connector, identity: Identity, get_labels: LabelLookup
) -> AccessPolicy | None:
    """Return the first policy that lets the caller use the Connector, or None. Only ServiceAccounts can be let in."""
    if not identity.user.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, _, name = identity.user.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    for policy in policies:
        if applies(policy, connector) and any(_selects(each, namespace, name, get_labels) for each in policy.accounts):
            return policy
    return None


def _selects(accounts: AccountSelector, namespace: str, name: str, get_labels: LabelLookup) -> bool:
    if accounts.names and name not in accounts.names:
        return False
    selector = accounts.namespaces
    if not selector.uses_labels:
        return selector.matches(namespace, {})
    labels = get_labels(namespace)
    # Without the labels, requirements such as NotIn would match a namespace that they are meant to leave out.
    return labels is not None and selector.matches(namespace, labels)
