"""A Connector of ours joined with what it names, each part on its own.

`resolve` stops at the first thing that is wrong; a person who reads the conditions wants all of them.
"""

from dataclasses import dataclass

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.objects.auth import choose
from connector_store.domain.objects.models import Connector, ConnectorClass, Rejected, Secret, Unusable
from connector_store.domain.objects.resolve import (
    RoleLookup,
    SecretLookup,
    auth_secret,
    lent,
    resolve,
    target_ca,
    what_is_lent,
)
from connector_store.domain.permissions.permissions import PermissionEvaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`auth` and `ca` as `resolve.auth_secret` and `resolve.target_ca` give them; None for a Rejected one."""

    connector: Connector | Rejected
    cls: ConnectorClass | None
    auth: Secret | Unusable | None = None
    ca: bytes | Unusable | None = None
    credential: Credential | None = None
    """What the target is to get; None also where `auth` is Unusable."""
    lending: PermissionEvaluator | Unusable | None = None

    @property
    def auth_name(self) -> str | None:
        """The class's auth type that the Connector uses."""
        if self.cls is None or isinstance(self.connector, Rejected):
            return None
        chosen = choose(self.cls, self.connector.auth_name)
        return chosen.name if chosen else None


def gather(
    connector: Connector | Rejected,
    cls: ConnectorClass | None,
    lookup: SecretLookup,
    shared_ca: bytes | None,
    role: RoleLookup,
) -> Facts:
    """For a Connector of which `auth.is_ours` is true."""
    if isinstance(connector, Rejected):
        return Facts(connector=connector, cls=cls)
    name = connector.secret_name
    named = None if name is None else lookup(ObjectKey(connector.key.namespace, name))
    auth, credential = _auth(connector, cls, lookup)
    return Facts(
        connector=connector,
        cls=cls,
        auth=auth,
        ca=target_ca(connector, named, lookup, shared_ca),
        credential=credential,
        lending=what_is_lent(connector, role),
    )


def _auth(
    connector: Connector, cls: ConnectorClass | None, lookup: SecretLookup
) -> tuple[Secret | Unusable | None, Credential | None]:
    if cls is None:
        return None, None
    auth = choose(cls, connector.auth_name)
    if auth is None:
        unknown = resolve(connector, cls, lookup, None, lambda _: None)
        return (unknown if isinstance(unknown, Unusable) else None), None
    found = auth_secret(connector, auth, lookup)
    if isinstance(found, Unusable):
        return found, None
    credential = lent(connector, auth, found)
    return (credential, None) if isinstance(credential, Unusable) else (found, credential)
