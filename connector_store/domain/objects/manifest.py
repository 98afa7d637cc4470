"""Parser of raw API objects. It returns the values of `models`.

A ParseError is raised only for an object without a usable identity, or of an unsupported kind. A Connector that cannot
be parsed becomes an `InvalidConnector`, so that other Connectors still work and its owner learns how to fix it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

from connector_store.domain.base import names
from connector_store.domain.base.errors import ParseError, parse_errors_at
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.metadata import Metadata, parse_metadata
from connector_store.domain.base.names import is_dns_subdomain
from connector_store.domain.base.schema import MAX_SUGGESTION_INPUT, suggest_name
from connector_store.domain.credential.credentials import AuthParams
from connector_store.domain.objects.access_objects import AccessObject
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.objects.manifest_access import (
    parse_access_approval,
    parse_access_lock,
    parse_access_policy,
    parse_access_request,
    parse_namespace,
)
from connector_store.domain.objects.manifest_class import parse_class
from connector_store.domain.objects.manifest_secret import parse_secret
from connector_store.domain.objects.models import (
    PERMISSIONS_INVALID,
    SECRET_INVALID,
    Address,
    Connector,
    ConnectorClass,
    InvalidConnector,
    Secret,
)
from connector_store.domain.permissions.bindings import (
    Binding,
    Role,
    parse_cluster_role_binding,
    parse_role,
    parse_role_binding,
)
from connector_store.domain.permissions.impersonation import parse_impersonation
from connector_store.domain.permissions.limits import parse_limits
from connector_store.domain.permissions.permissions import Permissions, parse_permissions
from connector_store.domain.permissions.rbac import RBAC_VERSION, ClusterRole, parse_cluster_role

_ACCESS_PARSERS: Final[Mapping[str | None, Callable[..., AccessObject]]] = {
    "AccessPolicy": parse_access_policy,
    "AccessRequest": parse_access_request,
    "AccessApproval": parse_access_approval,
    "AccessLock": parse_access_lock,
}

API_GROUP: Final = names.API_GROUP
API_VERSION: Final = f"{API_GROUP}/v1alpha1"
KINDS: Final = {
    **dict.fromkeys(("Connector", "ConnectorClass"), API_VERSION),
    "Secret": "v1",
    **dict.fromkeys(("ClusterRole", "Role", "RoleBinding", "ClusterRoleBinding"), RBAC_VERSION),
    **dict.fromkeys(("AccessPolicy", "AccessLock"), API_VERSION),
    "Namespace": "v1",
}
"""Kinds that a folder can have, and the apiVersion that each must have."""


ParsedObject = Connector | InvalidConnector | ConnectorClass | Secret | ClusterRole | Role | Binding | AccessObject


def parse_object(raw: object, *, system_namespace: str, default_namespace: str = "") -> ParsedObject:
    """Parse an object of one of the `KINDS`, or an AccessRequest or AccessApproval.

    Objects without a namespace get `default_namespace`, as with kubectl.
    """
    if not isinstance(raw, Mapping):
        raise ParseError("", "is not an object")
    fields = Fields(raw, "")
    match fields.text("apiVersion"), fields.text("kind"):
        case "v1", "Secret":
            return parse_secret(raw, system_namespace=system_namespace, default_namespace=default_namespace)
        case version, "Connector" if version == API_VERSION:
            return parse_connector(raw, default_namespace=default_namespace)
        case version, "ConnectorClass" if version == API_VERSION:
            return parse_class(raw)
        case version, "ClusterRole" if version == RBAC_VERSION:
            return parse_cluster_role(raw)
        case version, "Role" if version == RBAC_VERSION:
            return parse_role(raw, default_namespace=default_namespace)
        case version, "RoleBinding" if version == RBAC_VERSION:
            return parse_role_binding(raw, default_namespace=default_namespace)
        case version, "ClusterRoleBinding" if version == RBAC_VERSION:
            return parse_cluster_role_binding(raw)
        case version, kind if kind in _ACCESS_PARSERS and version == API_VERSION:
            return _ACCESS_PARSERS[kind](raw, default_namespace=default_namespace)
        case "v1", "Namespace":
            return parse_namespace(raw)
    raise _unsupported_object(fields)


def _unsupported_object(fields: Fields) -> ParseError:
    version, kind = fields.text("apiVersion") or "", fields.text("kind") or ""
    if kind in KINDS:
        return ParseError("apiVersion", f"{_quote(version)} of {kind} is not read here; write {KINDS[kind]}")
    hint = suggest_name(kind, KINDS) or "; what is read: " + ", ".join(KINDS)
    return ParseError("kind", f"{_quote(kind)} is not read here{hint}")


def _quote(text: str) -> str:
    """Quote user input for an error message, shortened and on one line."""
    return json.dumps(text[:MAX_SUGGESTION_INPUT])


def parse_connector(raw: Mapping[str, object], *, default_namespace: str = "") -> Connector | InvalidConnector:
    """Parse a Connector. Return an InvalidConnector with a condition's reason if its spec cannot be used."""
    metadata = parse_metadata(raw, namespaced=True, default_namespace=default_namespace)
    spec: Fields | None = None
    reason = "AddressInvalid"
    try:
        spec = Fields(raw, "").child("spec")
        reason = "ConnectorClassNotFound"
        class_name = _class_name(spec)
        reason = "AddressInvalid"
        address = _address(spec)
        reason = SECRET_INVALID
        auth = spec.child("auth")
        auth_params, secret_name = _params(auth), _secret_ref_name(auth.child("secretRef"), metadata)
        ca_secret_name = _referenced_name(spec.child("caCertSecretRef"))
        reason = PERMISSIONS_INVALID
        return Connector(
            key=metadata.key,
            class_name=class_name,
            address=address,
            auth_name=auth.text("name"),
            auth_params=auth_params,
            secret_name=secret_name,
            ca_secret_name=ca_secret_name,
            permissions=_permissions(spec, address),
            impersonation=parse_impersonation(spec),
            limits=parse_limits(spec),
            uid=metadata.uid,
            labels=metadata.labels,
            created_at=metadata.created_at or 0.0,
            is_deleted=metadata.fields.value("deletionTimestamp") is not None,
            generation=metadata.generation,
            resource_version=metadata.resource_version,
        )
    except ParseError as error:
        return _invalid(metadata, spec, reason, error)


def _class_name(spec: Fields) -> str:
    name = spec.text("connectorClassName")
    if name is None:
        raise ParseError("spec.connectorClassName", "is empty; set it to k8s")
    return name


def _address(spec: Fields) -> Address:
    text = spec.text("address")
    if text is None:
        raise ParseError("spec.address", "is empty; write https://HOST[:PORT][/PATH]")
    with parse_errors_at("spec.address"):
        return parse_address(text)


def _permissions(spec: Fields, address: Address) -> Permissions | None:
    permissions = parse_permissions(spec)
    if permissions is not None and address.prefix.partition("/")[2].partition("/")[0] in ("api", "apis"):
        # With the address `https://HOST/api`, the server reads /api/v1/secrets as its own path. We would read
        # /v1/secrets.
        raise ParseError(
            spec.path_of("permissions"),
            "cannot be kept below an address whose path begins with /api or /apis; write the server's base URL",
        )
    return permissions


def _secret_ref_name(ref: Fields, metadata: Metadata) -> str | None:
    """Return the name in a core/v1 ObjectReference. It must reference a Secret in the Connector's namespace."""
    if ref.text("kind") not in (None, "Secret"):
        raise ParseError(ref.path_of("kind"), "is not Secret")
    if ref.text("namespace") not in (None, metadata.key.namespace):
        raise ParseError(
            ref.path_of("namespace"),
            f"is another namespace; a Connector uses Secrets of its own, {metadata.key.namespace}, only",
        )
    return _referenced_name(ref)


def _params(auth: Fields) -> AuthParams:
    """Return names and values. A value that has no text form becomes empty, because other classes allow any value."""
    return tuple((param.text("name") or "", _param_text(param.value("value"))) for param in auth.items("params"))


def _param_text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return value if isinstance(value, str) else ""


def _referenced_name(ref: Fields) -> str | None:
    name = ref.text("name")
    if name is not None and not is_dns_subdomain(name):
        raise ParseError(ref.path_of("name"), "is not the name of a Secret")
    return name


def _invalid(metadata: Metadata, spec: Fields | None, reason: str, error: ParseError) -> InvalidConnector:
    name = spec.value("connectorClassName") if spec is not None else None
    return InvalidConnector(
        key=metadata.key,
        class_name=name if isinstance(name, str) else "",
        reason=reason,
        message=str(error),
        path=error.path,
        uid=metadata.uid,
        generation=metadata.generation,
        resource_version=metadata.resource_version,
    )
