"""Parser of a raw Secret. No error quotes the Secret's data."""

import base64
from collections.abc import Mapping
from typing import NamedTuple

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.metadata import Metadata, parse_metadata
from connector_store.domain.base.names import CA_LABEL
from connector_store.domain.base.pem import BEGIN, parse_certificates
from connector_store.domain.credential.credentials import Credential, InvalidKeyError
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.objects.credential_kinds import SECRET_TYPES
from connector_store.domain.objects.models import ADDRESS_ANNOTATION, Address, Secret, SecretProblem

_CA_KEY = "ca.crt"
_CA_SUFFIXES = (".crt", ".pem")
_OPAQUE = "Opaque"


class _SecretPart[T](NamedTuple):
    """A value from the Secret, or the reason why it cannot be used. Both are None if it does not exist.

    `missing_key` is the required key that the Secret does not have.
    """

    value: T | None = None
    problem: SecretProblem | None = None
    missing_key: str = ""


def parse_secret(raw: Mapping[str, object], *, system_namespace: str, default_namespace: str = "") -> Secret:
    """Parse a Secret of any type. Only Secrets in `system_namespace` can contain CAs for all Connectors."""
    metadata = parse_metadata(raw, namespaced=True, default_namespace=default_namespace)
    fields = Fields(raw, "")
    kind = fields.value("type")
    kind = kind if isinstance(kind, str) and kind else _OPAQUE
    credential = _credential(fields, kind)
    ca = _ca(fields, kind)
    pinned_address = _pinned_address(metadata)
    return Secret(
        key=metadata.key,
        type=kind,
        credential=credential.value,
        credential_problem=credential.problem,
        missing_key=credential.missing_key,
        ca=ca.value,
        ca_problem=ca.problem,
        pinned_address=pinned_address.value,
        pinned_address_problem=pinned_address.problem,
        is_shared_ca=metadata.key.namespace == system_namespace and _has_ca_label(metadata),
        resource_version=metadata.resource_version,
    )


def _credential(fields: Fields, kind: str) -> _SecretPart[Credential]:
    secret_type = SECRET_TYPES.get(kind)
    if secret_type is None:
        return _SecretPart()
    values: dict[str, bytes] = {}
    try:
        for key in secret_type.keys:
            value = _decode(fields, key)
            if value is None:
                return _SecretPart(missing_key=key)
            values[key] = value
        return _SecretPart(secret_type.read(values))
    except ParseError as error:
        return _SecretPart(problem=secret_problem(error))


def _ca(fields: Fields, kind: str) -> _SecretPart[bytes]:
    certificates_pem: list[bytes] = []
    key = "data"
    try:
        for key in _ca_keys(fields, kind):
            certificates_pem.extend(parse_certificates(_decode(fields, key) or b""))
    except ParseError as error:
        return _SecretPart(problem=secret_problem(InvalidKeyError(key, error.reason)))
    return _SecretPart(b"".join(certificates_pem)) if certificates_pem else _SecretPart()


def _ca_keys(fields: Fields, kind: str) -> list[str]:
    """Return the keys that contain CAs: ca.crt, if it exists.

    In a Secret whose type is not a credential's, the fallbacks are *.crt and *.pem, then any key with PEM.
    """
    keys = sorted({*fields.child("data").names(), *fields.child("stringData").names()})
    if _CA_KEY in keys:
        return [_CA_KEY]
    if kind in SECRET_TYPES:
        return []
    certificate_keys = [key for key in keys if key.endswith(_CA_SUFFIXES)]
    return certificate_keys or [key for key in keys if _holds_certificates(fields, key)]


def _holds_certificates(fields: Fields, key: str) -> bool:
    try:
        return BEGIN in (_decode(fields, key) or b"")
    except ParseError:
        return False


def _decode(fields: Fields, key: str) -> bytes | None:
    """Return the value of `key`. stringData wins over data, as in the API server. Base64 may have line breaks (Go)."""
    plain = fields.child("stringData")
    if key in plain.names():
        return (plain.text(key) or "").encode(errors="surrogatepass")
    data = fields.child("data")
    if key not in data.names():
        return None
    text = (data.text(key) or "").replace("\n", "").replace("\r", "")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ParseError(f"data[{key}]", "is not base64; use stringData for plain text") from None


def _pinned_address(metadata: Metadata) -> _SecretPart[Address]:
    path = f"metadata.annotations[{ADDRESS_ANNOTATION}]"
    try:
        text = metadata.annotation(ADDRESS_ANNOTATION)
        return _SecretPart(parse_address(text) if text is not None else None)
    except ParseError as error:
        return _SecretPart(problem=secret_problem(ParseError(path, error.reason)))


def secret_problem(error: ParseError) -> SecretProblem:
    """Return the error as the value that a Secret keeps."""
    return SecretProblem(error.key if isinstance(error, InvalidKeyError) else "", error.path, str(error))


def _has_ca_label(metadata: Metadata) -> bool:
    try:
        return metadata.label(CA_LABEL) == "true"
    except ParseError:
        return False
