"""Secret with the CA of the proxies (setting `ca-secret`).

The controller writes the Secret. The proxies sign with its CA.

mitmproxy-ca.pem   The signing CA, in the format of mitmproxy's file of that name: private key (unencrypted PEM, EC or
                   RSA), its CA certificate, and further certificates to send with leaf certificates. After a rotation,
                   the CA certificate is the one that the previous CA signed, so clients that trust the previous CA
                   keep working.
ca.crt             The CA certificates to publish (ConfigMap, CACerts, GET /ca.crt), the signing CA first.
                   If absent, the first certificate of mitmproxy-ca.pem.
next.pem           The next CA, in the format of mitmproxy-ca.pem. It is published and does not sign yet. It exists only
                   during a rotation.

tls.crt, tls.key   The signing CA in a Secret of type kubernetes.io/tls, as cert-manager writes it: certificate and
                   private key (PEM). They are not used if `mitmproxy-ca.pem` exists.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from connector_store.domain.base.errors import ParseError, parse_errors_at
from connector_store.domain.base.fields import Fields
from connector_store.domain.status.rotation_plan import NEXT_CA_KEY, PUBLISHED_CA_KEY, SIGNING_CA_KEY
from connector_store.trust import load_certificates

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

TLS_CERTIFICATE_KEY: Final = "tls.crt"
TLS_PRIVATE_KEY: Final = "tls.key"
TLS_TYPE: Final = "kubernetes.io/tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """CA that can sign. Callers trust `certificate`. The proxy sends `chain` with leaf certificates, its own first."""

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]

    @property
    def expires_at(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    def to_pem(self) -> bytes:
        """Return the content of `mitmproxy-ca.pem`."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + to_pem(*self.chain)


def load_signer(pem: bytes, anchors: Sequence[x509.Certificate] = ()) -> Signer:
    """Read `mitmproxy-ca.pem` or `next.pem`. The ParseError quotes nothing of it.

    `Signer.certificate` is the one of `anchors` with the same key, or else the first certificate of the PEM.
    """
    chain = load_certificates(pem)
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ParseError(
            "", "has no private key that can be read; put it before the certificate, unencrypted"
        ) from error
    if not isinstance(key, PrivateKey):
        raise ParseError("", "has a private key that is neither EC nor RSA; use one of these")
    public_key = key.public_key()
    if public_key != chain[0].public_key():
        raise ParseError("", "has a private key of another certificate than its first; put that certificate first")
    if not _is_ca(chain[0]):
        raise ParseError("", "has a first certificate that is not a CA; use one with basic constraints CA:TRUE")
    certificate = next((each for each in anchors if each.public_key() == public_key), chain[0])
    return Signer(key=key, certificate=certificate, chain=tuple(chain))


def read_data(raw: Mapping[str, object]) -> dict[str, bytes]:
    """Decode our keys of the Secret, without empty ones. The ParseError names the key and does not quote its value."""
    data = Fields(raw, "").child("data")
    decoded: dict[str, bytes] = {}
    for key in (SIGNING_CA_KEY, NEXT_CA_KEY, PUBLISHED_CA_KEY, TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY):
        try:
            value = base64.b64decode(data.text(key) or "", validate=True)
        except ParseError as error:
            raise ParseError(f"data[{key}]", error.reason) from None
        except ValueError:
            raise ParseError(f"data[{key}]", "is not base64") from None
        if value:
            decoded[key] = value
    return decoded


def has_signer(data: Mapping[str, bytes]) -> bool:
    """Return True if the Secret has a signing CA, valid or not."""
    return SIGNING_CA_KEY in data or (TLS_CERTIFICATE_KEY in data and TLS_PRIVATE_KEY in data)


def published_certificates(data: Mapping[str, bytes]) -> tuple[x509.Certificate, ...]:
    """Return the CA certificates to publish: the signing CA first, then the next one. The ParseError names the key."""
    certificates = list(trusted_certificates(data))
    if NEXT_CA_KEY in data:
        certificates.insert(1, read_signer(data, NEXT_CA_KEY).certificate)
    return tuple(dict.fromkeys(certificates))


def trusted_certificates(data: Mapping[str, bytes]) -> tuple[x509.Certificate, ...]:
    """Return the signing CA and the published certificates. A broken next CA does not matter here."""
    return tuple(dict.fromkeys((read_signer(data, SIGNING_CA_KEY).certificate, *_anchors(data))))


def read_signer(data: Mapping[str, bytes], key: str) -> Signer:
    """Read the CA under `key` of the Secret. The ParseError names that key."""
    anchors = _anchors(data)
    name, pem = key, data.get(key)
    if pem is None and key == SIGNING_CA_KEY and has_signer(data):
        name, pem = TLS_CERTIFICATE_KEY, data[TLS_PRIVATE_KEY] + b"\n" + data[TLS_CERTIFICATE_KEY]
    if pem is None:
        raise ParseError(f"data[{key}]", "is missing")
    with parse_errors_at(f"data[{name}]"):
        return load_signer(pem, anchors)


def _anchors(data: Mapping[str, bytes]) -> list[x509.Certificate]:
    with parse_errors_at(f"data[{PUBLISHED_CA_KEY}]"):
        return load_certificates(data[PUBLISHED_CA_KEY]) if PUBLISHED_CA_KEY in data else []


def to_pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
