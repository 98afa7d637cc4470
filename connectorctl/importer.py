"""Conversion of a user's kubeconfig into a Connector and its Secret, pinned to the kubeconfig's server.

The credential must be a token or a client certificate. Errors name what a Connector does not support: exec plugins and
auth providers, which run on the user's machine; passwords; proxies; and servers that are not verified.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import is_dns_subdomain
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.credential.client_certificate import CERTIFICATE_KEY, CLIENT_CERTIFICATE_SECRET, PRIVATE_KEY
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.objects.manifest import API_VERSION, parse_object
from connector_store.domain.objects.models import ADDRESS_ANNOTATION, Secret

MAX_FILE_SIZE: Final = 8 * 1024 * 1024
"""Maximum bytes of a kubeconfig."""

_UNSUPPORTED_USER_FIELDS: Final = {
    "exec": "is a plugin that runs on your machine; lend a ServiceAccount's token instead",
    "auth-provider": "is a plugin of kubectl's; lend a ServiceAccount's token instead",
    "username": "is a password's; API servers take none any more",
    "as": "acts as another; a Connector lends what the credential itself may do",
}
_UNSUPPORTED_CLUSTER_FIELDS: Final = {
    "insecure-skip-tls-verify": "is set; only a target that is verified gets a credential: add its CA",
    "proxy-url": "leads through another proxy; a Connector has no such thing",
    "tls-server-name": "names another host than the server's; a Connector has no such thing",
}


def convert_kubeconfig(path: Path, context: str | None, *, namespace: str, name: str | None) -> list[dict[str, Any]]:
    """Return the Secret and the Connector. ParseError names the unsupported field, and quotes no credential."""
    config = Fields(_load(path), "")
    context_name = context or config.text("current-context")
    if context_name is None:
        raise ParseError("current-context", "is empty; name one with --context")
    context_names = [context_item.text("name") or "" for context_item in config.items("contexts")]
    if context_name not in context_names:
        raise ParseError(
            "--context", f"{path} has no context {context_name!r}; it has: {', '.join(context_names) or 'none'}"
        )
    context_entry = _find_by_name(config, "contexts", context_name).child("context")
    cluster = _find_by_name(config, "clusters", context_entry.text("cluster") or "").child("cluster")
    user = _find_by_name(config, "users", context_entry.text("user") or "").child("user")
    _reject_fields(user, _UNSUPPORTED_USER_FIELDS)
    _reject_fields(cluster, _UNSUPPORTED_CLUSTER_FIELDS)
    server = cluster.text("server") or ""
    try:
        address = str(parse_address(server))
    except ParseError as error:
        raise ParseError(cluster.path_of("server"), error.reason) from None
    connector_name = name or _default_name(context_name)
    if not is_dns_subdomain(connector_name):
        raise ParseError(
            "--name", f"{connector_name!r} is not the name of a Connector: lower case letters, digits, '-' and '.'"
        )
    kind, auth, data = _credential(user, path.parent)
    ca = _data_or_file(cluster, "certificate-authority", path.parent)
    if ca is not None:
        data["ca.crt"] = ca
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": connector_name, "namespace": namespace, "annotations": {ADDRESS_ANNOTATION: address}},
        "type": kind,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    parsed_secret = parse_object(secret, system_namespace="")
    if (
        isinstance(parsed_secret, Secret)
        and (problem := parsed_secret.credential_problem or parsed_secret.ca_problem) is not None
    ):
        raise ParseError(user.path, problem.text)
    connector = {
        "apiVersion": API_VERSION,
        "kind": "Connector",
        "metadata": {"name": connector_name, "namespace": namespace},
        "spec": {
            "connectorClassName": "k8s",
            "address": address,
            "auth": {"name": auth, "secretRef": {"name": connector_name}},
        },
    }
    return [secret, connector]


def _load(path: Path) -> object:
    with path.open("rb") as stream:
        text = stream.read(MAX_FILE_SIZE + 1)
    if len(text) > MAX_FILE_SIZE:
        raise ParseError(str(path), f"is longer than {MAX_FILE_SIZE} bytes")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ParseError(str(path), "is no kubeconfig: it is not YAML") from None


def _find_by_name(config: Fields, kind: str, name: str) -> Fields:
    for item in config.items(kind):
        if item.text("name") == name:
            return item
    raise ParseError(kind, f"has no {name!r}")


def _reject_fields(fields: Fields, reasons: Mapping[str, str]) -> None:
    for name, reason in reasons.items():
        if fields.value(name):
            raise ParseError(fields.path_of(name), reason)


def _default_name(context: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", context.lower()).strip("-")[:61].strip("-")


def _credential(user: Fields, folder: Path) -> tuple[str, str, dict[str, bytes]]:
    token_file = user.text("tokenFile")
    token = _read_file(user.path_of("tokenFile"), folder / token_file) if token_file else None
    if token is None and (text := user.text("token")) is not None:
        token = text.encode()
    if token is not None:
        return BEARER_TOKEN_SECRET, "bearerTokenAuth", {"token": token}
    certificate, key = (_data_or_file(user, field, folder) for field in ("client-certificate", "client-key"))
    if certificate is None or key is None:
        raise ParseError(user.path, "has neither a token nor a client certificate with its key")
    return CLIENT_CERTIFICATE_SECRET, "clientCertificateAuth", {CERTIFICATE_KEY: certificate, PRIVATE_KEY: key}


def _data_or_file(fields: Fields, name: str, folder: Path) -> bytes | None:
    """Return NAME-data, or else the content of the file NAME, relative to the kubeconfig's folder, as kubectl does."""
    data, file = fields.text(f"{name}-data"), fields.text(name)
    if data is not None:
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise ParseError(fields.path_of(f"{name}-data"), "is not base64") from None
    return _read_file(fields.path_of(name), folder / file) if file is not None else None


def _read_file(path: str, file: Path) -> bytes:
    try:
        return file.read_bytes()[: MAX_FILE_SIZE + 1]
    except OSError as error:
        raise ParseError(path, f"{file}: {error.strerror}") from None
