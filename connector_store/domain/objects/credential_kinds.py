"""Table of the supported kinds of credentials, and the choice of a kind by auth type."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from connector_store.domain.credential import bearer_token, client_certificate, token_request
from connector_store.domain.credential.credentials import CredentialKind, SecretType
from connector_store.domain.objects.models import AuthType, Connector, ConnectorClass, InvalidConnector

KINDS: Final[tuple[CredentialKind, ...]] = (bearer_token.KIND, token_request.KIND, client_certificate.KIND)

SECRET_TYPES: Final[Mapping[str, SecretType]] = MappingProxyType(
    {secret_type.name: secret_type for kind in KINDS for secret_type in kind.secret_types}
)
"""Secret types by name. The programs watch all Secrets of these types, and other Secrets by name."""

SECRET_SELECTORS: Final = tuple(f"type={name}" for name in SECRET_TYPES)
"""Field selectors of the Secrets with credentials, one for each type. Field selectors have no `or`."""


def credential_kind(auth_type: AuthType) -> CredentialKind | None:
    """Return the kind of credential that `auth_type` uses, or None if it is not supported."""
    candidates = [
        kind for kind in KINDS if any(secret_type.name == auth_type.secret_type for secret_type in kind.secret_types)
    ]
    exact_match = next((kind for kind in candidates if kind.requires_name and kind.name == auth_type.name), None)
    return exact_match or next((kind for kind in candidates if not kind.requires_name), None)


def accepted_secret_types(kind: CredentialKind, auth_type: AuthType) -> tuple[SecretType, ...]:
    """Return the types that a Secret of this auth type may have, the recommended one first."""
    if not kind.requires_name:
        return (SECRET_TYPES[auth_type.secret_type],)
    return tuple(sorted(kind.secret_types, key=lambda secret_type: secret_type.name != auth_type.secret_type))


def choose_auth_type(cls: ConnectorClass, name: str | None) -> AuthType | None:
    """Return the auth type called `name`, or None if there is none.

    Without a name, return the only auth type, or the first one if the class has only supported ones.
    """
    if name is not None:
        return next((auth_type for auth_type in cls.auth_types if auth_type.name == name), None)
    if len(cls.auth_types) == 1 or (cls.auth_types and all(map(credential_kind, cls.auth_types))):
        return cls.auth_types[0]
    return None


def is_supported(connector: Connector | InvalidConnector, cls: ConnectorClass | None) -> bool:
    """Return False for a Connector whose auth type is not supported. Other products handle those."""
    if cls is None:
        return True
    auth_type = choose_auth_type(cls, None if isinstance(connector, InvalidConnector) else connector.auth_name)
    return is_class_supported(cls) if auth_type is None else credential_kind(auth_type) is not None


def is_class_supported(cls: ConnectorClass) -> bool:
    """Return True if at least one auth type of the class is supported."""
    return any(map(credential_kind, cls.auth_types))
