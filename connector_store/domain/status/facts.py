"""Facts about a Connector: each object that it references, or the problem with it.

`resolve` stops at the first problem. Conditions show all problems.
"""

from dataclasses import dataclass

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.objects.credential_kinds import choose_auth_type
from connector_store.domain.objects.models import Connector, ConnectorClass, InvalidConnector, Secret, Unusable
from connector_store.domain.objects.resolve import (
    RoleLookup,
    SecretLookup,
    find_credential_secret,
    resolve,
    resolve_permissions,
    target_ca,
    target_credential,
)
from connector_store.domain.permissions.evaluator import PermissionEvaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorFacts:
    """Results of the functions of `resolve` for one Connector. All are None for an InvalidConnector.

    `secret` is from `find_credential_secret`, `ca` from `target_ca`, `permissions` from `resolve_permissions`.
    """

    connector: Connector | InvalidConnector
    cls: ConnectorClass | None
    secret: Secret | Unusable | None = None
    ca: bytes | Unusable | None = None
    credential: Credential | None = None
    """Credential for the target. It is None if `secret` is Unusable."""
    permissions: PermissionEvaluator | Unusable | None = None

    @property
    def auth_name(self) -> str | None:
        """Name of the class's auth type that the Connector uses."""
        if self.cls is None or isinstance(self.connector, InvalidConnector):
            return None
        auth_type = choose_auth_type(self.cls, self.connector.auth_name)
        return auth_type.name if auth_type else None


def gather_facts(
    connector: Connector | InvalidConnector,
    cls: ConnectorClass | None,
    lookup_secret: SecretLookup,
    shared_ca: bytes | None,
    lookup_role: RoleLookup,
) -> ConnectorFacts:
    """Gather the facts of a Connector for which `credential_kinds.is_supported` is true."""
    if isinstance(connector, InvalidConnector):
        return ConnectorFacts(connector=connector, cls=cls)
    name = connector.secret_name
    referenced_secret = None if name is None else lookup_secret(ObjectKey(connector.key.namespace, name))
    secret, credential = _secret_and_credential(connector, cls, lookup_secret)
    return ConnectorFacts(
        connector=connector,
        cls=cls,
        secret=secret,
        ca=target_ca(connector, referenced_secret, lookup_secret, shared_ca),
        credential=credential,
        permissions=resolve_permissions(connector, lookup_role),
    )


def _secret_and_credential(
    connector: Connector, cls: ConnectorClass | None, lookup_secret: SecretLookup
) -> tuple[Secret | Unusable | None, Credential | None]:
    if cls is None:
        return None, None
    auth_type = choose_auth_type(cls, connector.auth_name)
    if auth_type is None:
        problem = resolve(connector, cls, lookup_secret, None, lambda _: None)
        return (problem if isinstance(problem, Unusable) else None), None
    secret = find_credential_secret(connector, auth_type, lookup_secret)
    if isinstance(secret, Unusable):
        return secret, None
    credential = target_credential(connector, auth_type, secret)
    return (credential, None) if isinstance(credential, Unusable) else (secret, credential)
