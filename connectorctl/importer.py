"""Conversion of a user's kubeconfig into a Connector and its Secret, pinned to the kubeconfig's server.

The credential must be a token or a client certificate. Errors name what a Connector does not support: exec plugins and
auth providers, which run on the user's machine; passwords; proxies; and servers that are not verified.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connector_store.domain.base.errors import ParseError, parse_errors_at
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey, is_dns_subdomain
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.credential.client_certificate import CERTIFICATE_KEY, CLIENT_CERTIFICATE_SECRET, PRIVATE_KEY
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.objects.manifest import API_VERSION, parse_object
from connector_store.domain.objects.models import ADDRESS_ANNOTATION, Secret
from connector_store.domain.permissions.builtin_roles import AGENT_ROLE, CREDENTIALS_ROLE
from connector_store.domain.permissions.mask_gaps import MASK_PARTS
from connector_store.domain.permissions.restrictions import MASKED_RESOURCE
from connectorctl.kubeconfig_fields import find_context, find_entry, load_kubeconfig, read_data, read_file

_UNSUPPORTED_USER_FIELDS: Final = {
    "exec": "is a plugin that runs on your machine; use a ServiceAccount's token: --create-account --role ROLE",
    "auth-provider": "is a plugin of kubectl; use a ServiceAccount's token: --create-account --role ROLE",
    "username": "is for a password, which API servers no longer accept; use a token or a client certificate",
    "as": "impersonates another user; a Connector allows what the credential itself can do",
}
_UNSUPPORTED_CLUSTER_FIELDS: Final = {
    "insecure-skip-tls-verify": "is set, but only a target that is verified gets a credential; add its CA",
    "proxy-url": "leads through another proxy, which a Connector does not support; use a direct address",
    "tls-server-name": "names another host than server, which a Connector does not support; put that name into server",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportTarget:
    """Server of a kubeconfig's context, and the name of the Connector for it. `user` is the kubeconfig's user."""

    name: str
    address: str
    ca: bytes | None
    user: Fields = field(repr=False)
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedCredential:
    """Credential for a Secret of type `secret_type`, and the `auth` of the Connector without its Secret."""

    secret_type: str
    auth: Mapping[str, Any]
    data: Mapping[str, bytes] = field(repr=False)


def read_target(path: Path, context: str | None, *, name: str | None, address: str | None = None) -> ImportTarget:
    """Read the context of a kubeconfig. ParseError names the unsupported field. `address` replaces the server."""
    config = load_kubeconfig(path)
    context_name, context_entry = find_context(config, context)
    cluster = find_entry(config, "clusters", context_entry.text("cluster") or "", "cluster")
    _reject_fields(cluster, _UNSUPPORTED_CLUSTER_FIELDS)
    with parse_errors_at(cluster.path_of("server") if address is None else "--address"):
        parsed_address = parse_address(cluster.text("server") or "" if address is None else address)
    connector_name = name or _default_name(context_name)
    if not is_dns_subdomain(connector_name):
        raise ParseError(
            "--name", f"{connector_name!r} is not the name of a Connector: lower case letters, digits, '-' and '.'"
        )
    return ImportTarget(
        name=connector_name,
        address=str(parsed_address),
        ca=read_data(cluster, "certificate-authority", path.parent),
        user=find_entry(config, "users", context_entry.text("user") or "", "user"),
        folder=path.parent,
    )


def read_credential(target: ImportTarget) -> ImportedCredential:
    """Return the token or the client certificate of the kubeconfig's user. ParseError quotes no credential."""
    _reject_fields(target.user, _UNSUPPORTED_USER_FIELDS)
    kind, auth, data = _credential(target.user, target.folder)
    return ImportedCredential(secret_type=kind, auth={"name": auth}, data=data)


def issued_credential(account: ObjectKey, token: bytes) -> ImportedCredential:
    """Return the credential of an account whose only right is to issue tokens of `account`."""
    params = [{"name": "serviceAccount", "value": str(account)}]
    auth = {"name": "serviceAccountTokenAuth", "params": params}
    return ImportedCredential(secret_type=BEARER_TOKEN_SECRET, auth=auth, data={"token": token})


def build_permissions(roles: Sequence[str], *, deny_credentials: bool) -> dict[str, Any]:
    """Return `spec.permissions` that allow ClusterRoles, or nothing if everything is allowed."""
    permissions: dict[str, Any] = {}
    if roles:
        permissions["allow"] = [{"clusterRole": role} for role in roles]
    if deny_credentials:
        permissions["deny"] = [{"clusterRole": CREDENTIALS_ROLE}]
    return permissions


def build_agent_permissions(roles: Sequence[str] = ()) -> dict[str, Any]:
    """Return `spec.permissions` for an agent: reading with masked Secrets, and `roles`."""
    return {
        "mask": [{"resources": [MASKED_RESOURCE]}],
        "allow": [{"clusterRole": role} for role in (AGENT_ROLE, *roles)],
        "deny": [{"clusterRole": part} for part in MASK_PARTS],
    }


def build_objects(
    target: ImportTarget, credential: ImportedCredential, *, namespace: str, permissions: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the Secret, pinned to the target, and the Connector. Raises ParseError if the proxy could not use it."""
    ca = {} if target.ca is None else {"ca.crt": target.ca}
    data = {**credential.data, **ca}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": target.name,
            "namespace": namespace,
            "annotations": {ADDRESS_ANNOTATION: target.address},
        },
        "type": credential.secret_type,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    parsed_secret = parse_object(secret, system_namespace="")
    if (
        isinstance(parsed_secret, Secret)
        and (problem := parsed_secret.credential_problem or parsed_secret.ca_problem) is not None
    ):
        raise ParseError(target.user.path, problem.text)
    connector = {
        "apiVersion": API_VERSION,
        "kind": "Connector",
        "metadata": {"name": target.name, "namespace": namespace},
        "spec": {
            "connectorClassName": "k8s",
            "address": target.address,
            "auth": {**credential.auth, "secretRef": {"name": target.name}},
            **({"permissions": dict(permissions)} if permissions else {}),
        },
    }
    return [secret, connector]


def _reject_fields(fields: Fields, reasons: Mapping[str, str]) -> None:
    for name, reason in reasons.items():
        if fields.value(name):
            raise ParseError(fields.path_of(name), reason)


def _default_name(context: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", context.lower()).strip("-")[:61].strip("-")


def _credential(user: Fields, folder: Path) -> tuple[str, str, dict[str, bytes]]:
    token_file = user.text("tokenFile")
    token = read_file(user.path_of("tokenFile"), folder / token_file) if token_file else None
    if token is None and (text := user.text("token")) is not None:
        token = text.encode()
    if token is not None:
        return BEARER_TOKEN_SECRET, "bearerTokenAuth", {"token": token}
    certificate, key = (read_data(user, field, folder) for field in ("client-certificate", "client-key"))
    if certificate is None or key is None:
        raise ParseError(user.path, "has neither a token nor a client certificate with its key")
    return CLIENT_CERTIFICATE_SECRET, "clientCertificateAuth", {CERTIFICATE_KEY: certificate, PRIVATE_KEY: key}
