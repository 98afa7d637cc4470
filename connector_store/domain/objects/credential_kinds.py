"""The kinds of credentials that a Connector can lend: one row each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from connector_store.domain.credential import bearer_token, client_certificate, token_request
from connector_store.domain.credential.credentials import CredentialKind, SecretType
from connector_store.domain.objects.models import AuthType, Connector, ConnectorClass, InvalidConnector

KINDS: Final[tuple[CredentialKind, ...]] = (bearer_token.KIND, token_request.KIND, client_certificate.KIND)

SECRET_TYPES: Final[Mapping[str, SecretType]] = MappingProxyType(
    {each.name: each for kind in KINDS for each in kind.secret_types}
)
"""By the name of the type; Secrets of these types are watched as a whole, others by name."""

SECRET_SELECTORS: Final = tuple(f"type={each}" for each in SECRET_TYPES)
"""Field selectors of the Secrets with credentials, one for each type: the API server knows no `or`."""


def credential_kind(auth: AuthType) -> CredentialKind | None:
    """None for an auth type that is not ours."""
    candidates = [kind for kind in KINDS if any(each.name == auth.secret_type for each in kind.secret_types)]
    exact_match = next((kind for kind in candidates if kind.requires_name and kind.name == auth.name), None)
    return exact_match or next((kind for kind in candidates if not kind.requires_name), None)


def accepted_secret_types(kind: CredentialKind, auth: AuthType) -> tuple[SecretType, ...]:
    """The types that a Secret of this auth type may have, the one to recommend first."""
    if not kind.requires_name:
        return (SECRET_TYPES[auth.secret_type],)
    return tuple(sorted(kind.secret_types, key=lambda each: each.name != auth.secret_type))


def choose_auth_type(cls: ConnectorClass, name: str | None) -> AuthType | None:
    """The auth type of that name; without a name the only one, or the first of a class that has only ours."""
    if name is not None:
        return next((each for each in cls.auth_types if each.name == name), None)
    if len(cls.auth_types) == 1 or (cls.auth_types and all(map(credential_kind, cls.auth_types))):
        return cls.auth_types[0]
    return None


def is_supported(connector: Connector | InvalidConnector, cls: ConnectorClass | None) -> bool:
    """False for Connectors that authenticate by something else than our kinds: others serve those."""
    if cls is None:
        return True
    auth_type = choose_auth_type(cls, None if isinstance(connector, InvalidConnector) else connector.auth_name)
    return is_class_supported(cls) if auth_type is None else credential_kind(auth_type) is not None


def is_class_supported(cls: ConnectorClass) -> bool:
    """False for classes none of whose auth types is ours."""
    return any(map(credential_kind, cls.auth_types))
