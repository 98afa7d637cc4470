"""Join of a Connector with its class, Secrets and roles. The result is a `Target`, or the reason why there is none.

The proxy, `connectorctl status` and the controller's conditions use the same join. It ignores the Connector's status,
so a failed probe does not block any caller.
"""

from collections.abc import Callable
from typing import Final

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
    SECRET_INVALID,
    AuthType,
    Connector,
    ConnectorClass,
    InvalidConnector,
    Secret,
    Target,
    Unusable,
)
from connector_store.domain.permissions.evaluator import PermissionEvaluator, RoleProblem, build_evaluator
from connector_store.domain.permissions.rbac import ClusterRole

_SECRET_NAME: Final = "spec.auth.secretRef.name"  # noqa: S105 - a field
_CA_SECRET: Final = "spec.caCertSecretRef"  # noqa: S105 - a field

SecretLookup = Callable[[ObjectKey], Secret | None]
RoleLookup = Callable[[str], ClusterRole | None]


def resolve(
    connector: Connector | InvalidConnector,
    cls: ConnectorClass | None,
    lookup_secret: SecretLookup,
    shared_ca: bytes | None,
    lookup_role: RoleLookup,
) -> Target | Unusable | None:
    """Join a Connector with the objects that it references. Return None if its auth type is not supported.

    `shared_ca` is the PEM of the CAs for every Connector that has no CA of its own.
    """
    if not is_supported(connector, cls):
        return None
    if isinstance(connector, InvalidConnector):
        return Unusable(
            key=connector.key, reason=connector.reason, message=connector.message, path=connector.path or _SECRET_NAME
        )
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
        limits=connector.limits,
    )


def find_credential_secret(
    connector: Connector, auth_type: AuthType, lookup_secret: SecretLookup
) -> Secret | Unusable | None:
    """Return the Secret with the credential, or None if it is optional and not set.

    An Unusable has the reason of the condition SecretReady.
    """
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
    accepted = accepted_secret_types(kind, auth_type) if kind else ()
    secret_type = next((candidate for candidate in accepted if candidate.name == secret.type), None)
    if secret_type is None:
        return _unusable(
            connector,
            "SecretTypeMismatch",
            f'secrets "{name}" has type "{secret.type}"; create it anew with type {auth_type.secret_type}',
        )
    if secret.credential_problem is not None:
        return _unusable(connector, SECRET_INVALID, f'secrets "{name}": {secret.credential_problem}', secret=secret.key)
    if secret.credential is None:
        key = secret.missing_key or next(iter(secret_type.keys))
        return _unusable(
            connector, "SecretKeyMissing", f'secrets "{name}" has no key "{key}"; add {secret_type.keys[key]} there'
        )
    return _check_pinned_address(connector, secret)


def target_credential(connector: Connector, auth_type: AuthType, secret: Secret | None) -> Credential | Unusable | None:
    """Return the credential for the target, derived from the Secret that `find_credential_secret` returned."""
    kind = credential_kind(auth_type)
    if secret is None or secret.credential is None or kind is None:
        return None
    try:
        return kind.derive(secret.credential, connector.auth_params)
    except ParseError as error:
        return _unusable(connector, SECRET_INVALID, str(error), error.path or _SECRET_NAME)


def _check_pinned_address(connector: Connector, secret: Secret) -> Secret | Unusable:
    name = secret.key.name
    if secret.pinned_address_problem is not None:
        return _unusable(
            connector, SECRET_INVALID, f'secrets "{name}": {secret.pinned_address_problem}', secret=secret.key
        )
    if secret.pinned_address is not None and secret.pinned_address != connector.address:
        return _unusable(
            connector,
            SECRET_INVALID,
            f'secrets "{name}" is pinned to another address than spec.address; '
            "change the Secret's annotation connectors.alauda.io/address, or spec.address",
        )
    return secret


def target_ca(
    connector: Connector, credential_secret: Secret | None, lookup_secret: SecretLookup, shared_ca: bytes | None
) -> bytes | Unusable | None:
    """Return the CAs from the most specific source, or None for the system's store.

    The order is: ca.crt of the credential's Secret, spec.caCertSecretRef, the shared CAs. A source that is set but
    cannot be read makes the Connector unusable. A fallback would let any public CA replace a pinned private one.
    So does spec.caCertSecretRef next to a pinned Secret without ca.crt: it would let the author of the Connector choose
    who can pose as the pinned address.
    """
    if credential_secret is not None and credential_secret.ca_problem is not None:
        message = f'secrets "{credential_secret.key.name}": {credential_secret.ca_problem}'
        return _unusable(connector, "InvalidPEM", message, _CA_SECRET, secret=credential_secret.key)
    if credential_secret is not None and credential_secret.ca is not None:
        return credential_secret.ca
    name = connector.ca_secret_name
    if name is None:
        return shared_ca
    if credential_secret is not None and credential_secret.pinned_address is not None:
        return _unusable(
            connector,
            "CACertNotAllowed",
            f'secrets "{credential_secret.key.name}" is pinned, so spec.caCertSecretRef is not allowed; '
            "add the CA to that Secret as ca.crt, or leave spec.caCertSecretRef out",
            _CA_SECRET,
        )
    secret = lookup_secret(ObjectKey(connector.key.namespace, name))
    if secret is None:
        return _unusable(
            connector,
            "SecretNotFound",
            f'secrets "{name}" not found in namespace "{connector.key.namespace}"; spec.caCertSecretRef names it',
            _CA_SECRET,
        )
    if secret.ca_problem is not None or secret.ca is None:
        problem = (
            secret.ca_problem or "no certificate under ca.crt or another *.crt or *.pem key; add the target's CA as PEM"
        )
        source = secret.key if secret.ca_problem is not None else None
        return _unusable(connector, "InvalidPEM", f'secrets "{name}": {problem}', _CA_SECRET, secret=source)
    return secret.ca


def resolve_permissions(connector: Connector, lookup_role: RoleLookup) -> PermissionEvaluator | Unusable | None:
    """Return the evaluator of spec.permissions, or None if the Connector has none.

    An Unusable has the reason of the condition PermissionsReady.
    """
    if connector.permissions is None:
        return None
    permissions = build_evaluator(connector.permissions, lookup_role)
    if isinstance(permissions, RoleProblem):
        return _unusable(connector, "RoleNotFound", permissions.message, "spec.permissions")
    return permissions


def _class_not_found(connector: Connector) -> Unusable:
    return _unusable(
        connector,
        "ConnectorClassNotFound",
        f'connectorclasses.connectors.alauda.io "{connector.class_name}" not found; '
        "create it, or set spec.connectorClassName to k8s",
        "spec.connectorClassName",
    )


def _auth_type_not_found(connector: Connector, cls: ConnectorClass) -> Unusable:
    names = ", ".join(auth_type.name for auth_type in cls.auth_types)
    return _unusable(
        connector,
        SECRET_INVALID,
        f'spec.auth.name "{connector.auth_name or ""}" is not an auth type of class {cls.name}; use one of: {names}',
    )


def _unusable(
    connector: Connector, reason: str, message: str, path: str = _SECRET_NAME, *, secret: ObjectKey | None = None
) -> Unusable:
    return Unusable(key=connector.key, reason=reason, message=message, path=path, secret=secret)
