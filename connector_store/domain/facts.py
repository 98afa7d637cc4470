"""A Connector of ours joined with what it names, each part on its own.

`resolve` stops at the first thing that is wrong; a person who reads the conditions wants all of them.
"""

from dataclasses import dataclass

from connector_store.domain.models import Connector, ConnectorClass, Credential, Rejected, Secret, Unusable
from connector_store.domain.names import ObjectKey
from connector_store.domain.resolve import SecretLookup, auth_secret, resolve, target_ca


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`auth` and `ca` as `resolve.auth_secret` and `resolve.target_ca` give them; None for a Rejected one."""

    connector: Connector | Rejected
    cls: ConnectorClass | None
    auth: Secret | Unusable | None = None
    ca: bytes | Unusable | None = None

    @property
    def auth_name(self) -> str | None:
        """The class's auth type that the Connector uses."""
        if self.cls is None or isinstance(self.connector, Rejected):
            return None
        chosen = self.cls.auth_type(self.connector.auth_name)
        return chosen.name if chosen else None

    @property
    def credential(self) -> Credential | None:
        return self.auth.token if isinstance(self.auth, Secret) else None


def gather(
    connector: Connector | Rejected, cls: ConnectorClass | None, lookup: SecretLookup, shared_ca: bytes | None
) -> Facts:
    """For a Connector of which `resolve.is_ours` is true."""
    if isinstance(connector, Rejected):
        return Facts(connector=connector, cls=cls)
    name = connector.secret_name
    named = None if name is None else lookup(ObjectKey(connector.key.namespace, name))
    return Facts(
        connector=connector,
        cls=cls,
        auth=_auth(connector, cls, lookup),
        ca=target_ca(connector, named, lookup, shared_ca),
    )


def _auth(connector: Connector, cls: ConnectorClass | None, lookup: SecretLookup) -> Secret | Unusable | None:
    if cls is None:
        return None
    auth = cls.auth_type(connector.auth_name)
    if auth is not None:
        return auth_secret(connector, auth, lookup)
    unknown = resolve(connector, cls, lookup, None)
    return unknown if isinstance(unknown, Unusable) else None
