"""Connector + class + Secrets -> what the data path may do with it.

The same join gives the proxy its `Target`, `connectorctl status` its explanation and the controller its conditions;
it never looks at status, so a failed probe stops nobody.
"""

from collections.abc import Callable

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.objects.credential_kinds import (
    accepted_secret_types,
    choose_auth_type,
    credential_kind,
    is_supported,
)
from connector_store.domain.objects.models import (
    AuthType,
    Connector,
    ConnectorClass,
    InvalidConnector,
    Secret,
    Target,
    Unusable,
)
from connector_store.domain.permissions.permissions import PermissionEvaluator, RoleProblem, build_evaluator
from connector_store.domain.permissions.rbac import ClusterRole

SecretLookup = Callable[[ObjectKey], Secret | None]
RoleLookup = Callable[[str], ClusterRole | None]


def resolve(
    connector: Connector | InvalidConnector,
    cls: ConnectorClass | None,
    lookup_secret: SecretLookup,
    shared_ca: bytes | None,
    lookup_role: RoleLookup,
) -> Target | Unusable | None:
    """Join a Connector with what it names; None if it is not ours.

    `shared_ca` is the PEM of the CAs that serve every Connector without one of its own.
    """
    if not is_supported(connector, cls):
        return None
    if isinstance(connector, InvalidConnector):
        return Unusable(key=connector.key, reason=connector.reason, message=connector.message)
    if cls is None:
        return _class_not_found(connector)
    auth_type = choose_auth_type(cls, connector.auth_name)
    if auth_type is None:
        return _auth_type_not_found(connector, cls)
    credential_secret = find_credential_secret(connector, auth_type, lookup_secret)
    if isinstance(credential_secret, Unusable):
        return credential_secret
    credential = target_credential(connector, auth_type, credential_secret)
    if isinstance(credential, Unusable):
        return credential
    ca = target_ca(connector, credential_secret, lookup_secret, shared_ca)
    if isinstance(ca, Unusable):
        return ca
    permissions = resolve_permissions(connector, lookup_role)
    if isinstance(permissions, Unusable):
        return permissions
    return Target(
        key=connector.key,
        uid=connector.uid,
        address=connector.address,
        credential=credential,
        secret_name=connector.secret_name,
        ca=ca,
        permissions=permissions,
        impersonation=connector.impersonation,
    )


def find_credential_secret(
    connector: Connector, auth_type: AuthType, lookup_secret: SecretLookup
) -> Secret | Unusable | None:
    """The Secret with the credential; None where there need not be one; Unusable with the reason of SecretReady."""
    name = connector.secret_name
    if name is None:
        if auth_type.optional:
            return None
        return _unusable(
            connector, "SecretNotFound", "spec.auth.secretRef.name is empty; name a Secret that holds the credential"
        )
    secret = lookup_secret(ObjectKey(connector.key.namespace, name))
    if secret is None:
        return _unusable(
            connector,
            "SecretNotFound",
            f'secrets "{name}" not found in namespace "{connector.key.namespace}"; '
            f"create it with type {auth_type.secret_type}",
        )
    kind = credential_kind(auth_type)
    secret_type = (
        next((each for each in accepted_secret_types(kind, auth_type) if each.name == secret.type), None)
        if kind
        else None
    )
    if secret_type is None:
        return _unusable(
            connector,
            "SecretTypeMismatch",
            f'secrets "{name}" has type "{secret.type}"; create it anew with type {auth_type.secret_type}',
        )
    if secret.credential_problem is not None:
        return _unusable(connector, "SecretInvalid", f'secrets "{name}": {secret.credential_problem}')
    if secret.credential is None:
        key = secret.missing_key or next(iter(secret_type.keys))
        return _unusable(
            connector, "SecretKeyMissing", f'secrets "{name}" has no key "{key}"; add {secret_type.keys[key]} there'
        )
    return _check_pinned_address(connector, secret)


def target_credential(connector: Connector, auth_type: AuthType, secret: Secret | None) -> Credential | Unusable | None:
    """What the target is to get of what `auth_secret` has found."""
    kind = credential_kind(auth_type)
    if secret is None or secret.credential is None or kind is None:
        return None
    try:
        return kind.derive(secret.credential, connector.auth_params)
    except ParseError as error:
        return _unusable(connector, "SecretInvalid", str(error))


def _check_pinned_address(connector: Connector, secret: Secret) -> Secret | Unusable:
    name = secret.key.name
    if secret.pinned_address_problem is not None:
        return _unusable(connector, "SecretInvalid", f'secrets "{name}": {secret.pinned_address_problem}')
    if secret.pinned_address is not None and secret.pinned_address != connector.address:
        return _unusable(
            connector,
            "SecretInvalid",
            f'secrets "{name}" is pinned to another address than spec.address; '
            "change the Secret's annotation connectors.alauda.io/address, or spec.address",
        )
    return secret


def target_ca(
    connector: Connector, credential_secret: Secret | None, lookup_secret: SecretLookup, shared_ca: bytes | None
) -> bytes | Unusable | None:
    """The most specific CA source: the auth Secret's ca.crt, spec.caCertSecretRef, the shared one; None: the system's.

    A source that is named but cannot be read makes the Connector unusable: falling back to a wider one would let any
    public CA stand in for a pinned private one.
    """
    if credential_secret is not None and credential_secret.ca_problem is not None:
        return _unusable(
            connector, "InvalidPEM", f'secrets "{credential_secret.key.name}": {credential_secret.ca_problem}'
        )
    if credential_secret is not None and credential_secret.ca is not None:
        return credential_secret.ca
    name = connector.ca_secret_name
    if name is None:
        return shared_ca
    secret = lookup_secret(ObjectKey(connector.key.namespace, name))
    if secret is None:
        return _unusable(
            connector,
            "SecretNotFound",
            f'secrets "{name}" not found in namespace "{connector.key.namespace}"; spec.caCertSecretRef names it',
        )
    if secret.ca_problem is not None or secret.ca is None:
        problem = (
            secret.ca_problem or "no certificate under ca.crt or another *.crt or *.pem key; add the target's CA as PEM"
        )
        return _unusable(connector, "InvalidPEM", f'secrets "{name}": {problem}')
    return secret.ca


def resolve_permissions(connector: Connector, lookup_role: RoleLookup) -> PermissionEvaluator | Unusable | None:
    """The roles of spec.permissions; None where all is lent; Unusable with the reason of PermissionsReady."""
    if connector.permissions is None:
        return None
    permissions = build_evaluator(connector.permissions, lookup_role)
    return (
        _unusable(connector, "RoleNotFound", permissions.message)
        if isinstance(permissions, RoleProblem)
        else permissions
    )


def _class_not_found(connector: Connector) -> Unusable:
    return _unusable(
        connector,
        "ConnectorClassNotFound",
        f'connectorclasses.connectors.alauda.io "{connector.class_name}" not found; '
        "create it, or set spec.connectorClassName to k8s",
    )


def _auth_type_not_found(connector: Connector, cls: ConnectorClass) -> Unusable:
    names = ", ".join(each.name for each in cls.auth_types)
    return _unusable(
        connector,
        "SecretInvalid",
        f'spec.auth.name "{connector.auth_name or ""}" is not an auth type of class {cls.name}; use one of: {names}',
    )


def _unusable(connector: Connector, reason: str, message: str) -> Unusable:
    return Unusable(key=connector.key, reason=reason, message=message)
