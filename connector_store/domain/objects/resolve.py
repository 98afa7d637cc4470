"""Connector + class + Secrets -> what the data path may do with it.

The same join gives the proxy its `Target`, `connectorctl status` its explanation and the controller its conditions;
it never looks at status, so a failed probe stops nobody.
"""

from collections.abc import Callable

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.objects.auth import accepted, choose, is_ours, kind_of
from connector_store.domain.objects.models import (
    AuthType,
    Connector,
    ConnectorClass,
    Rejected,
    Secret,
    Target,
    Unusable,
)
from connector_store.domain.permissions.permissions import PermissionEvaluator, RoleProblem, build_evaluator
from connector_store.domain.permissions.rbac import ClusterRole

SecretLookup = Callable[[ObjectKey], Secret | None]
RoleLookup = Callable[[str], ClusterRole | None]


def resolve(
    connector: Connector | Rejected,
    cls: ConnectorClass | None,
    secret: SecretLookup,
    shared_ca: bytes | None,
    role: RoleLookup,
) -> Target | Unusable | None:
    """Join a Connector with what it names; None if it is not ours.

    `shared_ca` is the PEM of the CAs that serve every Connector without one of its own.
    """
    if not is_ours(connector, cls):
        return None
    if isinstance(connector, Rejected):
        return Unusable(key=connector.key, reason=connector.reason, message=connector.message)
    if cls is None:
        return _class_missing(connector)
    auth = choose(cls, connector.auth_name)
    if auth is None:
        return _auth_unknown(connector, cls)
    found = auth_secret(connector, auth, secret)
    if isinstance(found, Unusable):
        return found
    credential = lent(connector, auth, found)
    if isinstance(credential, Unusable):
        return credential
    ca = target_ca(connector, found, secret, shared_ca)
    if isinstance(ca, Unusable):
        return ca
    lending = what_is_lent(connector, role)
    if isinstance(lending, Unusable):
        return lending
    return Target(
        key=connector.key,
        uid=connector.uid,
        address=connector.address,
        credential=credential,
        secret_name=connector.secret_name,
        ca=ca,
        lending=lending,
        impersonation=connector.impersonation,
    )


def auth_secret(connector: Connector, auth: AuthType, lookup: SecretLookup) -> Secret | Unusable | None:
    """The Secret with the credential; None where there need not be one; Unusable with the reason of SecretReady."""
    name = connector.secret_name
    if name is None:
        if auth.optional:
            return None
        return _unusable(
            connector, "SecretNotFound", "spec.auth.secretRef.name is empty; name a Secret that holds the credential"
        )
    secret = lookup(ObjectKey(connector.key.namespace, name))
    if secret is None:
        return _unusable(
            connector,
            "SecretNotFound",
            f'secrets "{name}" not found in namespace "{connector.key.namespace}"; '
            f"create it with type {auth.secret_type}",
        )
    kind = kind_of(auth)
    held = next((each for each in accepted(kind, auth) if each.name == secret.type), None) if kind else None
    if held is None:
        return _unusable(
            connector,
            "SecretTypeMismatch",
            f'secrets "{name}" has type "{secret.type}"; create it anew with type {auth.secret_type}',
        )
    if secret.credential_problem is not None:
        return _unusable(connector, "SecretInvalid", f'secrets "{name}": {secret.credential_problem}')
    if secret.credential is None:
        key = secret.lacks or next(iter(held.keys))
        return _unusable(
            connector, "SecretKeyMissing", f'secrets "{name}" has no key "{key}"; add {held.keys[key]} there'
        )
    return _pinned(connector, secret)


def lent(connector: Connector, auth: AuthType, secret: Secret | None) -> Credential | Unusable | None:
    """What the target is to get of what `auth_secret` has found."""
    kind = kind_of(auth)
    if secret is None or secret.credential is None or kind is None:
        return None
    try:
        return kind.derive(secret.credential, connector.auth_params)
    except ParseError as error:
        return _unusable(connector, "SecretInvalid", str(error))


def _pinned(connector: Connector, secret: Secret) -> Secret | Unusable:
    name = secret.key.name
    if secret.pin_problem is not None:
        return _unusable(connector, "SecretInvalid", f'secrets "{name}": {secret.pin_problem}')
    if secret.pinned is not None and secret.pinned != connector.address:
        return _unusable(
            connector,
            "SecretInvalid",
            f'secrets "{name}" is pinned to another address than spec.address; '
            "change the Secret's annotation connectors.alauda.io/address, or spec.address",
        )
    return secret


def target_ca(
    connector: Connector, auth: Secret | None, lookup: SecretLookup, shared_ca: bytes | None
) -> bytes | Unusable | None:
    """The most specific CA source: the auth Secret's ca.crt, spec.caCertSecretRef, the shared one; None: the system's.

    A source that is named but cannot be read makes the Connector unusable: falling back to a wider one would let any
    public CA stand in for a pinned private one.
    """
    if auth is not None and auth.ca_problem is not None:
        return _unusable(connector, "InvalidPEM", f'secrets "{auth.key.name}": {auth.ca_problem}')
    if auth is not None and auth.ca is not None:
        return auth.ca
    name = connector.ca_secret_name
    if name is None:
        return shared_ca
    secret = lookup(ObjectKey(connector.key.namespace, name))
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


def what_is_lent(connector: Connector, role: RoleLookup) -> PermissionEvaluator | Unusable | None:
    """The roles of spec.permissions; None where all is lent; Unusable with the reason of PermissionsReady."""
    if connector.permissions is None:
        return None
    found = build_evaluator(connector.permissions, role)
    return _unusable(connector, "RoleNotFound", found.message) if isinstance(found, RoleProblem) else found


def _class_missing(connector: Connector) -> Unusable:
    return _unusable(
        connector,
        "ConnectorClassNotFound",
        f'connectorclasses.connectors.alauda.io "{connector.class_name}" not found; '
        "create it, or set spec.connectorClassName to k8s",
    )


def _auth_unknown(connector: Connector, cls: ConnectorClass) -> Unusable:
    known = ", ".join(each.name for each in cls.auth_types)
    return _unusable(
        connector,
        "SecretInvalid",
        f'spec.auth.name "{connector.auth_name or ""}" is not an auth type of class {cls.name}; use one of: {known}',
    )


def _unusable(connector: Connector, reason: str, message: str) -> Unusable:
    return Unusable(key=connector.key, reason=reason, message=message)
